import { useNavigate } from "@tanstack/react-router";
import { type JSX, lazy, Suspense, useEffect, useRef, useState } from "react";

import { isTyping } from "@/lib/keys";
import { usePreference } from "@/lib/preferences";

import { PAGES } from "./Shell";

// A dialog is large, and few ask for it.
const Help = lazy(() => import("./Help"));

/** Single keys that go to pages (`g` and a letter) and the list of all keys. They can be turned off (WCAG 2.1.4). */
export function Shortcuts(): JSX.Element | null {
  const [on] = usePreference("shortcuts", true);
  const [help, setHelp] = useState(false);
  const waiting = useRef(-Infinity);
  const navigate = useNavigate();
  useEffect(() => {
    if (!on) return undefined;
    const listen = (event: KeyboardEvent): void => {
      if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "?") setHelp(true);
      else if (event.key === "/") {
        const filter = document.getElementById("filter");
        if (filter === null) return;
        event.preventDefault();
        filter.focus();
      } else if (event.key === "g") waiting.current = event.timeStamp;
      else if (event.timeStamp - waiting.current < 1500) {
        waiting.current = -Infinity;
        event.stopImmediatePropagation(); // after a `g` it is no key of the page
        const page = PAGES.find((one) => one.key === event.key);
        if (page !== undefined) void navigate({ to: page.to });
      }
    };
    window.addEventListener("keydown", listen, { capture: true });
    return () => window.removeEventListener("keydown", listen, { capture: true });
  }, [on, navigate]);
  return help ? (
    <Suspense>
      <Help close={() => setHelp(false)} />
    </Suspense>
  ) : null;
}
