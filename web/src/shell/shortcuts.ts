// Keys of the whole console: `g` and a letter goes somewhere, others are given by the shell.

const CHORD_MS = 1200;

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches('input, select, textarea'));
}

export interface Actions {
  /** Ctrl-K or `/`. */
  palette: () => void;
  /** `?`. */
  help: () => void;
  /** `g` and this letter; false if it leads nowhere. */
  go: (letter: string) => boolean;
}

/** What the window's keydown is to do. */
export function shortcuts(actions: Actions): (event: KeyboardEvent) => void {
  let chordUntil = 0;
  return (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
      event.preventDefault();
      actions.palette();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (document.querySelector('dialog[open]')) return;
    const isChord = Date.now() < chordUntil;
    chordUntil = 0;
    if (isChord && actions.go(event.key)) event.preventDefault();
    else if (event.key === 'g') chordUntil = Date.now() + CHORD_MS;
    else if (event.key === '/') {
      event.preventDefault();
      actions.palette();
    } else if (event.key === '?') actions.help();
  };
}
