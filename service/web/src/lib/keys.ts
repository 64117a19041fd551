import { useEffect, useRef } from "react";

import { usePreference } from "./preferences";

/** Single keys that do something on a page, unless they are turned off or a person is writing (WCAG 2.1.4). */
export function useKeys(keys: Record<string, () => void>): void {
  const [on] = usePreference("shortcuts", true);
  const current = useRef(keys);
  useEffect(() => {
    current.current = keys;
  });
  useEffect(() => {
    if (!on) return undefined;
    const listen = (event: KeyboardEvent): void => {
      if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      const act = current.current[event.key];
      if (act === undefined) return;
      event.preventDefault();
      act();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [on]);
}

/** Is the person writing into something? Then keys are letters. */
export function isTyping(event: KeyboardEvent): boolean {
  const at = event.target;
  return at instanceof HTMLElement && (at.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(at.tagName));
}
