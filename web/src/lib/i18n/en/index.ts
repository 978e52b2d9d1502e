import { admin } from './admin';
import { broker } from './broker';
import { engine } from './engine';
import { shell } from './shell';

export const en = { ...shell, ...broker, ...admin, ...engine };
