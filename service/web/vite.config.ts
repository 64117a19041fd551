/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const api = process.env["BCD_URL"] ?? "http://127.0.0.1:8765";

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  // Small assets would become data: addresses, which the Content-Security-Policy refuses for scripts and styles.
  build: { outDir: "../static", emptyOutDir: true, assetsInlineLimit: 0, chunkSizeWarningLimit: 700, manifest: true },
  server: { proxy: { "/api": { target: api, changeOrigin: false } } },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"], setupFiles: ["src/test/setup.ts"] },
});
