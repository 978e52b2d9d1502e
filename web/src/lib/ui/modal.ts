// What dialogs have in common.

/** Shows a dialog above all else; when it goes, what had the focus before has it again. */
export function modal(dialog: HTMLDialogElement, first?: string): { destroy: () => void } {
  const before = document.activeElement;
  dialog.showModal();
  if (first) dialog.querySelector<HTMLElement>(first)?.focus();
  return {
    destroy() {
      dialog.close();
      // After the dialog has left the page; what it was opened from may have left too.
      queueMicrotask(() => {
        if (before instanceof HTMLElement && before.isConnected) before.focus();
      });
    },
  };
}
