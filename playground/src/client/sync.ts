// A document on the sync server: y-websocket with tokens that are renewed, acknowledgements, and reasons of refusals.
// Edits made offline are kept in IndexedDB.
// Protocol: opennoodl-sync-server/docs/protocol.md

import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import { openDB } from 'lib0/indexeddb'
import { IndexeddbPersistence } from 'y-indexeddb'
import type { Awareness } from 'y-protocols/awareness'
import { WebsocketProvider } from 'y-websocket'
import type * as Y from 'yjs'
import { type GetToken, renewInTime } from './token'

export type SyncState =
  | 'offline'    // disconnected; y-websocket tries again
  | 'connecting'
  | 'saving'     // connected; the server has not acknowledged everything yet
  | 'saved'      // the server has stored every change of this client
  | 'refused'    // the server wants another token
  | 'closed'     // by this client

export interface SyncOptions {
  url: string
  /** Letters, digits, `-` and `_`, which are the same in a URL. */
  room: string
  doc: Y.Doc
  awareness: Awareness
  getToken?: GetToken
  onState?: (state: SyncState, reason: string) => void
  /** Milliseconds from sending a change until the server has stored it. */
  onStored?: (milliseconds: number) => void
  /** The server has refused the connection, or a change of a read-only user. */
  onDenied?: (reason: string) => void
}

/** y-websocket doubles its delay with each failure. After 1013 the server is at a limit, so some seconds pass at least. */
const FAILURES_WHEN_FULL = 4
const TOKEN_RETRY = 5_000
const ACKNOWLEDGEMENT = 100
const TOKEN = 101

/**
 * Keeps the document in this browser, so that edits made offline survive a reload. The promise is rejected where the
 * browser blocks its storage, as it does in some private windows.
 */
export const keepOffline = async (room: string, doc: Y.Doc) => {
  const probe = await openDB('opennoodl', () => {}) // y-indexeddb itself tells nobody of a failure
  probe.close()
  return new IndexeddbPersistence(`opennoodl/${room}`, doc)
}

export class Sync {
  readonly provider: WebsocketProvider
  state: SyncState = 'closed'
  private token?: string
  private wanted = false
  private denied = ''
  private deniedToken?: string
  private stopRenewing = () => {}
  private retryTimer?: ReturnType<typeof setTimeout>
  /** When each change of this connection was sent that is not acknowledged yet. */
  private unacknowledged: number[] = []
  private acknowledged = 0

  constructor (private readonly options: SyncOptions) {
    const { url, room, doc, awareness } = options
    this.provider = new WebsocketProvider(url, room, doc, {
      awareness,
      connect: false, // not before there is a token
      disableBc: true, // a second tab gets its changes from the server, like any other client
      maxBackoffTime: 30_000,
      params: { ack: 'true' },
      protocols: ['yjs'],
      shouldReconnect: ({ code }) => code !== 1008
    })
    this.listen()
  }

  connect () {
    this.wanted = true
    globalThis.addEventListener?.('online', this.retryNow)
    void this.open()
  }

  disconnect () {
    this.wanted = false
    globalThis.removeEventListener?.('online', this.retryNow)
    this.stopRenewing()
    clearTimeout(this.retryTimer)
    this.provider.disconnect()
    this.setState('closed')
  }

  destroy () {
    this.disconnect()
    this.options.doc.off('update', this.onUpdate)
    this.provider.destroy()
  }

  private async open (refusedToken?: string) {
    try {
      this.token = await this.options.getToken?.(refusedToken)
    } catch (error) {
      if (!this.wanted) return
      this.setState('offline', `there is no token: ${error}`)
      this.retryTimer = setTimeout(() => void this.open(refusedToken), TOKEN_RETRY)
      return
    }
    if (!this.wanted) return
    this.provider.protocols = this.token === undefined ? ['yjs'] : ['yjs', `opennoodl.token.${this.token}`]
    this.provider.connect()
  }

  private retryNow = () => {
    if (this.state === 'offline') this.provider.connect()
  }

  private listen () {
    const { provider } = this
    provider.on('status', ({ status }) => {
      this.unacknowledged = []
      this.acknowledged = 0
      this.stopRenewing()
      if (status === 'connected') this.renewBeforeExpiry()
      if (!this.wanted || status === 'disconnected') return // `connection-close` has told of that, with its reason
      this.setState(status === 'connected' ? 'saving' : 'connecting')
    })
    provider.on('connection-close', event => {
      // All clients lose a server at the same moment. They must not return at the same moment.
      const failures = Math.max(Math.floor(provider.wsUnsuccessfulReconnects), event?.code === 1013 ? FAILURES_WHEN_FULL : 0)
      provider.wsUnsuccessfulReconnects = failures + Math.random()
      if (this.wanted && event?.code !== 1008) this.setState('offline', event?.reason)
    })
    provider.on('closed', ({ reason }) => { // `shouldReconnect` said no: the token was refused
      const refusedToken = this.deniedToken ?? this.token ?? ''
      this.setState('refused', this.denied || reason)
      this.denied = ''
      this.deniedToken = undefined
      if (this.options.getToken !== undefined) void this.open(refusedToken)
    })
    // Before y-websocket's own handler of updates runs nothing is sent, so the time is a little long, never too short.
    this.options.doc.on('update', this.onUpdate)
    const synchronize = provider.messageHandlers[0]
    provider.messageHandlers[0] = (encoder, ...rest) => {
      synchronize(encoder, ...rest)
      if (encoding.length(encoder) > 1) this.sent() // a step 2, which the server acknowledges like an update
    }
    provider.messageHandlers[2] = (_encoder, decoder) => {
      decoding.readVarUint(decoder)
      this.denied = decoding.readVarString(decoder)
      this.deniedToken = this.token ?? '' // the connection ends seconds later, and may get a newer token before
      this.options.onDenied?.(this.denied)
    }
    provider.messageHandlers[ACKNOWLEDGEMENT] = (_encoder, decoder) => this.stored(decoding.readVarUint(decoder))
  }

  private onUpdate = (_update: Uint8Array, origin: unknown) => {
    if (origin !== this.provider && this.provider.wsconnected && this.provider.ws?.readyState === 1) this.sent()
  }

  private sent () {
    this.unacknowledged.push(performance.now())
    this.setState('saving')
  }

  private stored (count: number) {
    const sentAt = this.unacknowledged.splice(0, count - this.acknowledged)
    this.acknowledged = count
    if (sentAt.length > 0) this.options.onStored?.(performance.now() - sentAt[sentAt.length - 1])
    if (this.unacknowledged.length === 0) this.setState('saved')
  }

  private renewBeforeExpiry () {
    this.stopRenewing = renewInTime(this.token, this.options.getToken, newer => {
      this.token = newer
      this.provider.protocols = ['yjs', `opennoodl.token.${newer}`] // for the next connection
      const encoder = encoding.createEncoder()
      encoding.writeVarUint(encoder, TOKEN)
      encoding.writeVarString(encoder, newer)
      if (this.provider.ws?.readyState === 1) this.provider.ws.send(encoding.toUint8Array(encoder))
      this.renewBeforeExpiry()
    })
  }

  private setState (state: SyncState, reason = '') {
    this.state = state
    this.options.onState?.(state, reason)
  }
}
