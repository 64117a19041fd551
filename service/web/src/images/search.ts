import { numeric, oneOf, type Search, text } from "@/lib/search";

export const QUEUES = ["teacher-right", "student-right", "both-wrong", "gap", "lost", "won", "mistakes"] as const;
export type QueueId = (typeof QUEUES)[number];

/** What is looked at, as part of an address. */
export interface ImagesSearch {
  student?: string | undefined;
  queue?: QueueId | undefined;
  image?: number | undefined;
  score?: number | undefined;
  iou?: number | undefined;
  only?: string | undefined;
}

export function imagesSearch(search: Search): ImagesSearch {
  return {
    student: text(search["student"]),
    queue: oneOf(search["queue"], QUEUES),
    image: numeric(search["image"]),
    score: numeric(search["score"]),
    iou: numeric(search["iou"]),
    only: text(search["only"]),
  };
}
