/** A part of a page: its title, and what can be done with it on the right. */
import { Title } from "@mantine/core";
import type { JSX, ReactNode } from "react";

interface Props {
  title: string;
  menu?: JSX.Element;
  /** 2 for a part of the page, 3 for a part of a part. */
  order?: 2 | 3;
  children: ReactNode;
}

export function Section({ title, menu, order = 2, children }: Props): JSX.Element {
  return (
    <section>
      <div style={{ display: "flex", flexWrap: "wrap", gap: 8, justifyContent: "space-between", alignItems: "center", marginBottom: 8 }}>
        <Title order={order} size={order === 2 ? "h3" : "h4"}>
          {title}
        </Title>
        {menu}
      </div>
      {children}
    </section>
  );
}
