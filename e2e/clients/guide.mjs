// The examples of docs/client.md, client-tokens.md and client-modules.md, from the pages themselves. Each block is a
// module; those that export nothing show how the others are called.

import { EventEmitter } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import wrtc from '@roamhq/wrtc'
import { build } from 'esbuild'
import WebSocket from 'ws'
import { emit, serve, until } from './lines.mjs'

Object.assign(globalThis, { WebSocket, ...wrtc })
console.warn = text => emit('warned', { text: String(text) })

const names = ['client', 'client-tokens', 'client-modules']
const pages = await Promise.all(names.map(name => readFile(resolve(`../docs/${name}.md`), 'utf8')))
const page = pages.join('\n')
const blocks = [...page.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code)
const reference = { name: 'the reference modules', setup: build => build.onResolve({ filter: /^\.\/client\// }, file => ({
  path: resolve(`../playground/src/${file.path}.ts`)
})) }

/** Bundle code of the page; the libraries of this folder stay outside for Node, and come with it for a browser. */
const bundle = (contents, options) => build({
  stdin: { contents, resolveDir: resolve('.') }, bundle: true, format: 'esm', plugins: [reference], ...options
})

const load = async (code, number) => {
  const outfile = resolve(`example-${process.pid}-${number}.mjs`)
  await bundle(code, { outfile, platform: 'node', packages: 'external' })
  return await import(outfile).finally(() => rm(outfile))
}
const examples = blocks.filter(code => code.includes('export '))
const guide = Object.assign({}, ...await Promise.all(examples.map(load)))

let addresses
let providers
let inbox
let calls
let saved
const changes = new EventEmitter()

serve({
  /** The app in 20 lines, as a script for a browser, with the addresses of these servers. */
  firstApp: async ({ signaling, sync }) => {
    const [html] = page.match(/(?<=```html\n).*?(?=```)/s)
    const code = blocks[0].replace('ws://localhost:4444', signaling).replace('ws://localhost:4445', sync)
    const { outputFiles: [{ text }] } = await bundle(code, { write: false, platform: 'browser' })
    return html.replace(' src="main.js">', () => `>${text}`)
  },

  /** All examples, as a script for a browser that puts them into the variable `guide`. */
  forBrowser: async () => {
    const name = /^example:/
    const each = { name: 'the examples', setup: build => {
      build.onResolve({ filter: name }, ({ path }) => ({ path, namespace: 'example' }))
      build.onLoad({ filter: name, namespace: 'example' }, ({ path: name }) => (
        { contents: examples[name.split(':')[1]], resolveDir: resolve('.') }
      ))
    } }
    const all = examples.map((_, number) => `export * from 'example:${number}'`).join('\n')
    const { outputFiles: [{ text }] } = await bundle(all, {
      write: false, platform: 'browser', format: 'iife', globalName: 'guide', plugins: [each, reference],
      alias: { yjs: resolve('node_modules/yjs') } // the reference modules would bring that of the playground
    })
    return text
  },

  mint: ({ secret, claims, seconds }) => guide.mint(secret, claims, seconds),

  open: async options => {
    addresses = options
    providers = await guide.open(options)
    providers.websocket.disconnectBc() // clients of one machine would otherwise not need the server
    guide.watchPaths(providers.webrtc, number => emit('direct', { number }))
    providers.webrtc.on('peers', ({ webrtcPeers }) => emit('peers', { number: webrtcPeers.length }))
    providers.websocket.on('status', ({ status }) => emit(status))
    providers.websocket.on('connection-close', event => emit('closed', { code: event?.code ?? null }))
  },

  renew: ({ token }) => guide.renew(providers, { ...addresses, token }),
  keepRenewed: ({ token, newer }) => {
    guide.keepRenewed(providers, token, async () => {
      emit('asked')
      return newer
    }, addresses)
  },
  renewWhenRefused: ({ token }) => guide.renewWhenRefused(providers, async () => token, addresses),

  openToRead: options => {
    providers = guide.openToRead({ ...options, denied: reason => emit('denied', { reason }) })
  },

  openSaved: options => {
    saved = guide.openSaved({ ...options, onState: state => emit(state) })
  },
  writeSaved: ({ text }) => saved.doc.getText('notes').insert(0, text),

  write: ({ text }) => providers.doc.getText('notes').insert(0, text),
  read: () => providers.doc.getText('notes').toString(),
  untilText: ({ text }) => until(providers.doc, 'update', () => providers.doc.getText('notes').toString() === text),
  untilSynced: () => until(providers.websocket, 'sync', () => providers.websocket.synced),
  users: () => [...providers.webrtc.awareness.getStates().values()].map(({ user }) => user?.name).sort(),
  iceServers: () => providers.webrtc.peerOpts.config.iceServers,

  call: options => {
    calls = guide.call({ ...options, wrtc, onData: (_from, data) => emit('data', { text: String(data) }) })
  },
  untilJoined: async () => {
    while (!calls.signaling.joined) await setTimeout(20)
  },
  say: ({ text }) => calls.send(text),
  invite: ({ user, room, title }) => guide.invite({ ...calls, inbox }, user, room, title),

  openInbox: options => {
    const stored = new Map()
    const setItem = (key, value) => {
      stored.set(key, value)
      changes.emit('change')
    }
    const storage = { getItem: key => stored.get(key) ?? null, setItem }
    const show = ({ id, fromUserId, data }) => emit('shown', { notification: id, fromUserId, data })
    const showMissed = missed => emit('missed', { notifications: missed.map(({ id }) => id) })
    inbox = guide.openInbox({ ...options, show, showMissed, storage })
  },
  markRead: ({ notification }) => inbox.markRead(notification).then(() => {}),
  remove: ({ notification }) => inbox.delete(notification).then(() => {}),
  newest: () => inbox.notifications[0].data,

  /** Wait until the device has everything, and so many notifications. */
  untilInbox: ({ total, unread }) => until(changes, 'change', () =>
    inbox.memory.since > 0 && inbox.notifications.length === total && inbox.unreadCount === unread)
})
