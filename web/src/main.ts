import './app.css';
import App from './App.svelte';
import { startLanguage } from '$lib/i18n/index.svelte';
import { routeOf } from '$lib/nav';
import { parseHash } from '$lib/router';
import { session } from '$lib/session.svelte';
import { theme } from '$lib/theme.svelte';
import { mount } from 'svelte';

theme.start();
// The page's code comes while the broker says who is logged in; if it fails, the page says so when it is shown.
routeOf(parseHash(location.hash).segments)
  ?.route.load()
  .catch(() => {});
await Promise.all([startLanguage(), session.start()]);
const target = document.getElementById('app');
if (target) mount(App, { target });
