// Light, dark, or as the system has it; kept in this browser.

export type Choice = 'system' | 'light' | 'dark';

const KEY = 'millpond.theme';

class Theme {
  choice = $state<Choice>('system');
  #systemIsDark = $state(false);

  /** What is shown. */
  get shown(): 'light' | 'dark' {
    if (this.choice !== 'system') return this.choice;
    return this.#systemIsDark ? 'dark' : 'light';
  }

  start(): void {
    const kept = localStorage.getItem(KEY);
    if (kept === 'light' || kept === 'dark') this.choice = kept;
    const query = matchMedia('(prefers-color-scheme: dark)');
    this.#systemIsDark = query.matches;
    query.addEventListener('change', (event) => {
      this.#systemIsDark = event.matches;
      this.#apply();
    });
    this.#apply();
  }

  choose(choice: Choice): void {
    this.choice = choice;
    if (choice === 'system') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, choice);
    this.#apply();
  }

  toggle(): void {
    this.choose(this.shown === 'dark' ? 'light' : 'dark');
  }

  #apply(): void {
    document.documentElement.dataset.theme = this.shown;
  }
}

export const theme = new Theme();
