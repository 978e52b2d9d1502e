import type { Words } from '../index.svelte';
import { admin } from './admin';
import { broker } from './broker';
import { engine } from './engine';
import { explain } from './explain';
import { later } from './later';
import { shell } from './shell';
import { topology } from './topology';

export const zh: Words = { ...shell, ...broker, ...admin, ...engine, ...later, ...topology, ...explain };
