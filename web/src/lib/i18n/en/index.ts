import { admin } from './admin';
import { broker } from './broker';
import { engine } from './engine';
import { explain } from './explain';
import { shell } from './shell';
import { topology } from './topology';

export const en = { ...shell, ...broker, ...admin, ...engine, ...topology, ...explain };
