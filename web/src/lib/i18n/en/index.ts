import { admin } from './admin';
import { broker } from './broker';
import { engine } from './engine';
import { explain } from './explain';
import { later } from './later';
import { shell } from './shell';
import { topology } from './topology';

export const en = { ...shell, ...broker, ...admin, ...engine, ...later, ...topology, ...explain };
