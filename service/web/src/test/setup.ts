import { cleanup } from "@testing-library/react";
import { afterEach, vi } from "vitest";

// What Mantine asks of a browser and happy-dom does not have.
window.matchMedia = vi.fn((query: string) => ({
  matches: false,
  media: query,
  onchange: null,
  addListener: () => undefined,
  removeListener: () => undefined,
  addEventListener: () => undefined,
  removeEventListener: () => undefined,
  dispatchEvent: () => false,
}));

afterEach(cleanup);
