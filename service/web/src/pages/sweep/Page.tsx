import type { JSX } from "react";

import { Page as Frame } from "@/components/Page";

export default function Page(): JSX.Element {
  return (
    <Frame title="sweep" name="sweep">
      {null}
    </Frame>
  );
}
