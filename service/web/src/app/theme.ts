import { Anchor, createTheme, type CSSVariablesResolver, type MantineColorsTuple } from "@mantine/core";

// A blue whose shade 7 has 6.6:1 on white: links and buttons pass WCAG AA in both themes.
const blue: MantineColorsTuple = [
  "#e7f1fb", "#cfe2f5", "#a1c6ec", "#6fa8e2", "#478fd9", "#2d7fd3", "#1a6fc0", "#0b5cad", "#004c93", "#003a75",
]; // prettier-ignore

export const theme = createTheme({
  colors: { blue },
  primaryColor: "blue",
  primaryShade: { light: 7, dark: 6 },
  autoContrast: true,
  luminanceThreshold: 0.32,
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
  fontFamilyMonospace: "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace",
  headings: { fontWeight: "650", sizes: { h1: { fontSize: "1.5rem" }, h2: { fontSize: "1.15rem" }, h3: { fontSize: "1rem" } } },
  cursorType: "pointer",
  respectReducedMotion: true,
  // A link in a text must be told from it without colour.
  components: { Anchor: Anchor.extend({ defaultProps: { underline: "always" } }) },
});

// The dimmed text of Mantine is below 4.5:1 on grey grounds.
export const variables: CSSVariablesResolver = () => ({
  variables: {},
  light: { "--mantine-color-dimmed": "#55606b", "--mantine-color-error": "#b42318", "--bcd-gain": "#0b5cad", "--bcd-loss": "#b34700", "--bcd-line": "#d5dae0", "--bcd-ground": "#f6f8fa" },
  dark: { "--mantine-color-dimmed": "#a9b1ba", "--mantine-color-error": "#ff9a91", "--bcd-gain": "#7ab8f5", "--bcd-loss": "#ff9d5c", "--bcd-line": "#3b4148", "--bcd-ground": "#1d2023" },
});
