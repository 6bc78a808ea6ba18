import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

export default defineConfig({
  root: 'src',
  base: './',
  resolve: {
    alias: {
      // Otherwise y-webrtc connects windows of one browser through a BroadcastChannel, and the page shows no network.
      'lib0/broadcastchannel': fileURLToPath(new URL('./src/no-broadcast-channel.ts', import.meta.url))
    }
  },
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0, // an inlined file would be a data: URL, which the page's policy refuses
    modulePreload: false,
    rollupOptions: {
      // Names without a hash, so that a change of the page is a change of the same three files.
      output: { entryFileNames: 'app.js', chunkFileNames: '[name].js', assetFileNames: '[name][extname]' }
    }
  }
})
