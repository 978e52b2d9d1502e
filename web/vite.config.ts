import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The broker that `npm run dev` shows: MILLPOND_URL=http://127.0.0.1:25672 npm run dev
const broker = process.env.MILLPOND_URL ?? 'http://127.0.0.1:15672';

export default defineConfig({
  plugins: [svelte()],
  resolve: { alias: { $lib: new URL('./src/lib', import.meta.url).pathname } },
  build: {
    outDir: 'dist/www',
    emptyOutDir: true,
    target: 'es2022',
    manifest: true,
    // Nothing inline: the Content-Security-Policy allows neither inline scripts nor data: fonts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/api': broker, '/events': broker, '/metrics': broker } },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
