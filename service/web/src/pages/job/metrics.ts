/** Which metrics are drawn together: never a loss with an accuracy, never what has another unit. */

export interface Chart {
  id: string;
  title: string;
  unit: string;
  keys: string[];
  accuracy: boolean;
}

const NAMES: Record<string, [string, string]> = {
  lr: ["Learning rate", "learning rate"],
  grad_norm: ["Gradient norm", "norm"],
  images_per_second: ["Speed", "images per second"],
};
const SIZES = ["AP", "AP50", "AP75", "APs", "APm", "APl"];

export function charts(keys: readonly string[]): Chart[] {
  const found: Chart[] = [];
  const add = (id: string, title: string, unit: string, wanted: string[], accuracy = false): void => {
    if (wanted.length > 0) found.push({ id: `chart-${id}`, title, unit, keys: wanted, accuracy });
  };
  const main = SIZES.filter((key) => keys.includes(key));
  add("ap", "Accuracy on validation images", "AP (points)", main, true);
  const losses = keys.filter((key) => key === "loss" || key.startsWith("loss/")).sort();
  add("loss", "Loss and its terms, weighted", "loss", losses);
  const classes = keys.filter((key) => key.startsWith("AP/")).sort();
  add("classes", "AP of each class", "AP (points)", classes.slice(0, 20));
  for (const key of [...keys].sort()) {
    if (main.includes(key) || losses.includes(key) || classes.includes(key)) continue;
    const [title, unit] = NAMES[key] ?? [key, key];
    add(key.replaceAll(/[^\w-]/g, "-"), title, unit, [key]);
  }
  return found;
}
