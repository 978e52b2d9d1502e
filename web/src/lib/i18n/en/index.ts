import { admin } from './admin';
import { broker } from './broker';
import { shell } from './shell';

export const en = { ...shell, ...broker, ...admin };
