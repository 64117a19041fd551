/** The typed client of the REST API: every call is checked against the service's own OpenAPI document. */
import createClient from "openapi-fetch";

import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

export const api = createClient<paths>({ baseUrl: "/", credentials: "same-origin" });

/** A refusal of the service (RFC 9457), or a service that cannot be reached (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly requestId: string | null = null,
    readonly errors: { pointer: string; detail: string }[] = [],
  ) {
    super(message);
    this.name = "ApiError";
  }
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The body of an answer. Throws `ApiError`. */
export async function body<T>(call: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await call;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "the service cannot be reached");
  }
  if (answer.response.ok) return answer.data as T;
  throw problem(answer.response.status, answer.error);
}

/** The error that a problem document describes. */
export function problem(status: number, document: unknown): ApiError {
  const found = (typeof document === "object" && document !== null ? document : {}) as {
    detail?: unknown;
    title?: unknown;
    request_id?: unknown;
    errors?: { pointer: string; detail: string }[];
  };
  const text = typeof found.detail === "string" ? found.detail : typeof found.title === "string" ? found.title : `HTTP ${status}`;
  return new ApiError(status, text, typeof found.request_id === "string" ? found.request_id : null, found.errors ?? []);
}
