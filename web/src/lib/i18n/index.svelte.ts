// Words in English and Chinese. Keys are typed by the English words: a key that is missing does not compile.
//
// One file an area in `en/` and `zh/`; a language is loaded when it is chosen. In a text, `{name}` is a parameter and
// `{n|queue|queues}` is the first word if `n` is 1, else the second.

import type { en } from './en';
import { fill } from './fill';

export type Words = Record<keyof typeof en, string>;
export type Key = keyof Words;
export type Language = 'en' | 'zh';
export const LANGUAGES: Record<Language, string> = { en: 'English', zh: '中文' };

const KEY = 'millpond.language';
let language = $state<Language>('en');
let words = $state.raw<Partial<Words>>({});

async function load(wanted: Language): Promise<Words> {
  return wanted === 'zh' ? (await import('./zh')).zh : (await import('./en')).en;
}

function preferred(): Language {
  const kept = localStorage.getItem(KEY);
  if (kept === 'en' || kept === 'zh') return kept;
  return navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

async function use(wanted: Language): Promise<void> {
  words = await load(wanted);
  language = wanted;
  document.documentElement.lang = wanted === 'zh' ? 'zh-CN' : 'en';
}

/** Before anything is shown. */
export async function startLanguage(): Promise<void> {
  await use(preferred());
}

export async function chooseLanguage(wanted: Language): Promise<void> {
  localStorage.setItem(KEY, wanted);
  await use(wanted);
}

/** The language that is shown. */
export function currentLanguage(): Language {
  return language;
}

/** For `Intl`. */
export function locale(): string {
  return language === 'zh' ? 'zh-CN' : 'en-GB';
}

/** The text of a key in the language that is shown. */
export function t(key: Key, parameters?: Record<string, string | number>): string {
  return fill(words[key] ?? key, parameters);
}

/** Whether there is a text: for keys that are put together out of what the broker says. */
export function known(key: string): key is Key {
  return key in words;
}
