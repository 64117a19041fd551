/** Give the person a file. */
export function download(name: string, content: Blob | string, type = "text/plain;charset=utf-8"): void {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** One line that says where an export comes from. */
export function provenance(what: string): string {
  return `bcd: ${what}; ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC; ${window.location.href}`;
}
