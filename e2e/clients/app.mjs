// The app of docs/app.md, from the code of the page itself.

import { readFile, rm, writeFile } from 'node:fs/promises'
import wrtc from '@roamhq/wrtc'
import WebSocket from 'ws'
import { emit, serve, until } from './lines.mjs'

Object.assign(globalThis, { WebSocket, ...wrtc })
console.warn = text => emit('warned', { text: String(text) })

/** The blocks of the page that export something; the others show how these are called. */
const page = await readFile(new URL('../../docs/app.md', import.meta.url), 'utf8')
const blocks = [...page.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code).filter(code => code.includes('export '))
const file = new URL(`./app-of-the-page-${process.pid}.mjs`, import.meta.url)
await writeFile(file, blocks.join('\n'))
const app = await import(file).finally(() => rm(file))

let addresses
let providers
let inbox

serve({
  mint: ({ secret, claims, seconds }) => app.mint(secret, claims, seconds),

  open: async options => {
    addresses = options
    providers = await app.open(options)
    providers.websocket.disconnectBc() // clients of one machine would otherwise not need the server
    providers.webrtc.on('peers', ({ webrtcPeers }) => emit('peers', { number: webrtcPeers.length }))
    providers.websocket.on('status', ({ status }) => emit(status))
    providers.websocket.on('connection-close', event => emit('closed', { code: event?.code ?? null }))
  },

  renew: ({ token }) => app.renew(providers, { ...addresses, token }),
  renewWhenRefused: ({ token }) => app.renewWhenRefused(providers, async () => token, addresses),

  write: ({ text }) => providers.doc.getText('notes').insert(0, text),
  read: () => providers.doc.getText('notes').toString(),
  untilText: ({ text }) => until(providers.doc, 'update', () => providers.doc.getText('notes').toString() === text),
  untilSynced: () => until(providers.websocket, 'sync', () => providers.websocket.synced),
  users: () => [...providers.webrtc.awareness.getStates().values()].map(({ user }) => user?.name).sort(),
  iceServers: () => providers.webrtc.peerOpts.config.iceServers,

  notifications: async options => {
    inbox = await app.notifications({ ...options, show: ({ fromUserId, data }) => emit('shown', { fromUserId, data }) })
  },
  send: ({ to, type, data }) => inbox.send(to, type, data)
})
