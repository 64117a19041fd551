/** One event stream for the page: what the service says has happened, resumed where it broke off.
 *
 * Pages name topics (`useLive`); the stream is opened for their union. Events come in batches, at most four a second.
 * While there is no stream, `poll` batches come every ten seconds instead, so that a page that asks again on every
 * batch misses nothing. Nothing runs while the tab is hidden.
 */
import { useEffect, useRef, useSyncExternalStore } from "react";

import type { Schemas } from "./client";

export type LiveEvent = Schemas["EventOut"];
export type LiveState = "idle" | "connecting" | "open" | "lost";
type Listener = (events: LiveEvent[]) => void;

const SHORTEST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
const POLL_EVERY = 10_000;
const BATCH_EVERY = 250;

class Stream {
  private listeners = new Map<Listener, readonly string[]>();
  private watchers = new Set<() => void>();
  private source: EventSource | null = null;
  private topics = "";
  private last: string | null = null;
  private pause = SHORTEST_PAUSE;
  private waiting: LiveEvent[] = [];
  private batch: ReturnType<typeof setTimeout> | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private poll: ReturnType<typeof setInterval> | undefined;
  state: LiveState = "idle";

  listen(listener: Listener, topics: readonly string[]): () => void {
    this.listeners.set(listener, topics);
    this.update();
    return () => {
      this.listeners.delete(listener);
      this.update();
    };
  }

  watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  };

  /** Open, close or reopen, as the topics and the tab's visibility want it. */
  update = (): void => {
    const wanted = document.hidden ? "" : [...new Set([...this.listeners.values()].flat())].sort().join(",");
    if (wanted === this.topics && (this.source !== null || wanted === "")) return;
    this.close();
    this.topics = wanted;
    if (wanted === "") this.become("idle");
    else this.open();
  };

  private open(): void {
    // An EventSource sends the last id by itself only when it reconnects by itself; ours are new ones.
    const after = this.last === null ? "-1" : this.last;
    const address = `/api/v1/events?topics=${encodeURIComponent(this.topics)}&after=${after}`;
    this.become(this.state === "lost" ? "lost" : "connecting");
    const source = new EventSource(address, { withCredentials: true });
    this.source = source;
    source.onopen = () => {
      this.pause = SHORTEST_PAUSE;
      clearInterval(this.poll);
      this.poll = undefined;
      const again = this.state === "lost";
      this.become("open");
      if (again) this.deliver(); // what happened meanwhile may have no event behind the last one seen
    };
    source.onmessage = (message: MessageEvent<string>) => {
      if (message.lastEventId !== "") this.last = message.lastEventId;
      try {
        this.waiting.push(JSON.parse(message.data) as LiveEvent);
      } catch {
        return; // not one of ours
      }
      this.batch ??= setTimeout(this.deliver, BATCH_EVERY);
    };
    source.onerror = () => {
      source.close();
      if (this.source !== source) return;
      this.source = null;
      this.become("lost");
      this.poll ??= setInterval(this.deliver, POLL_EVERY);
      this.retry = setTimeout(() => this.open(), this.pause);
      this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
    };
  }

  private close(): void {
    this.source?.close();
    this.source = null;
    clearTimeout(this.retry);
    clearInterval(this.poll);
    this.poll = undefined;
  }

  private deliver = (): void => {
    clearTimeout(this.batch);
    this.batch = undefined;
    const events = this.waiting;
    this.waiting = [];
    for (const listener of [...this.listeners.keys()]) listener(events);
  };

  private become(state: LiveState): void {
    if (state === this.state) return;
    this.state = state;
    for (const watcher of this.watchers) watcher();
  }
}

const stream = new Stream();
document.addEventListener("visibilitychange", stream.update);

/** Call `react` with what happens on these topics (`job.state`, `*:JOB`; see docs/lists.md). An empty batch: look again. */
export function useLive(topics: readonly string[], react: Listener): void {
  const latest = useRef(react);
  useEffect(() => {
    latest.current = react;
  });
  const key = topics.join(",");
  useEffect(() => {
    if (key === "") return undefined;
    return stream.listen((events) => latest.current(events), key.split(","));
  }, [key]);
}

export function useLiveState(): LiveState {
  return useSyncExternalStore(stream.watch, () => stream.state);
}
