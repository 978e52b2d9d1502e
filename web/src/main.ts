import './app.css';
import App from './App.svelte';
import { startLanguage } from '$lib/i18n/index.svelte';
import { session } from '$lib/session.svelte';
import { theme } from '$lib/theme.svelte';
import { mount } from 'svelte';

theme.start();
await Promise.all([startLanguage(), session.start()]);
const target = document.getElementById('app');
if (target) mount(App, { target });
