import { Code, Modal, Table } from "@mantine/core";
import type { JSX } from "react";

import { PAGES } from "./Shell";

const ELSEWHERE: [string, string][] = [
  ["/", "to the filter of a list"],
  ["j k", "next and previous image"],
  ["Esc", "close"],
  ["?", "this list"],
];

/** All keys. */
export default function Help({ close }: { close: () => void }): JSX.Element {
  return (
    <Modal opened onClose={close} title="Keys" closeButtonProps={{ "aria-label": "Close" }}>
      <Table>
        <Table.Tbody>
          {[...PAGES.map((page): [string, string] => [`g ${page.key}`, page.label]), ...ELSEWHERE].map(([key, what]) => (
            <Table.Tr key={key}>
              <Table.Td>
                <Code>{key}</Code>
              </Table.Td>
              <Table.Td>{what}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Modal>
  );
}
