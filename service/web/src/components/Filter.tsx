import { Button, TextInput } from "@mantine/core";
import { type JSX, useState } from "react";

interface Props {
  /** What the list is filtered by now. */
  value: string;
  example: string;
  refused?: string | undefined;
  onApply: (text: string) => void;
}

/** The filter of a list. Remount it (`key`) when the address brings another one. */
export function Filter({ value, example, refused, onApply }: Props): JSX.Element {
  const [draft, setDraft] = useState(value);
  return (
    <form
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        onApply(draft.trim());
      }}
    >
      <TextInput
        id="filter"
        label="Filter"
        description={`Words of the name, or fields: ${example}`}
        value={draft}
        onChange={(event) => setDraft(event.currentTarget.value)}
        error={refused}
        rightSectionWidth={70}
        rightSection={
          <Button type="submit" size="compact-sm" variant="default">
            Apply
          </Button>
        }
      />
    </form>
  );
}
