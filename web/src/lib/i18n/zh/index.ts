import type { Words } from '../index.svelte';
import { broker } from './broker';
import { shell } from './shell';

export const zh: Words = { ...shell, ...broker };
