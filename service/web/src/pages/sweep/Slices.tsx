import { SimpleGrid, Stack, Text } from "@mantine/core";
import { type JSX, useMemo } from "react";

import { ends } from "@/charts/Parallel";
import { Scatter } from "@/charts/Scatter";
import { Empty } from "@/components/States";
import { number } from "@/lib/format";

import { axesOf, position, VALUE } from "./axes";
import { searched, type Sweep, type Trial, valueOf, whole, wordText } from "./sweep";

/** The objective against each parameter: where the good values lie. */
export function Slices({ sweep, trials }: { sweep: Sweep; trials: Trial[] }): JSX.Element {
  const all = useMemo(() => searched(trials).filter((trial) => valueOf(trial) !== null), [trials]);
  const objective = sweep.objectives[0] ?? "value";
  const axes = useMemo(() => axesOf((sweep.spec["space"] ?? {}) as Parameters<typeof axesOf>[0], objective, all), [sweep.spec, objective, all]);
  if (all.length === 0) return <Empty title="No value yet">Slices come with the first evaluation of a trial.</Empty>;
  const values = all.map((trial) => valueOf(trial) ?? 0);
  const range = [Math.min(...values), Math.max(...values)] as const;
  return (
    <Stack>
      <Text size="sm" c="dimmed">
        Filled: ran to its end. Hollow: its newest value before it was stopped; shorter runs are lower for that alone.
      </Text>
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        {axes
          .filter((axis) => axis.id !== VALUE)
          .map((axis) => (
            <Scatter
              key={axis.id}
              title={axis.id}
              xLabel={axis.kind === "log" ? `${axis.id} (logarithmic)` : axis.id}
              yLabel={objective}
              xTicks={axis.kind === "words" ? axis.words.map((text, i) => ({ at: axis.words.length === 1 ? 0.5 : i / (axis.words.length - 1), text })) : ends(axis.low, axis.high)}
              range={range}
              dots={all.flatMap((trial) => {
                const x = position(axis, trial);
                const y = valueOf(trial);
                return x === null || y === null ? [] : [{ id: trial.job_id, label: `#${String(trial.number)}: ${wordText(trial.params[axis.id])}, ${objective} ${number(y, 2)}`, x, y, filled: whole(trial) }];
              })}
            />
          ))}
      </SimpleGrid>
    </Stack>
  );
}
