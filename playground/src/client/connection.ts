// A WebSocket of JSON messages that connects again by itself. Signaling and inbox are built on it.

import { type GetToken, renewInTime } from './token'

export type Message = { type: string, [field: string]: any }

export type State =
  | 'connecting' // a socket is being opened, or the server has not accepted this client yet
  | 'connected'  // the server has accepted this client
  | 'waiting'    // the connection was lost, and the next try is due
  | 'refused'    // the server wants another token
  | 'replaced'   // another connection has taken this one's place; this one does not return by itself
  | 'closed'     // by this client

export interface ConnectionOptions {
  url: string
  getToken?: GetToken
  /** Sent after a silence, because a page sees no pings. Any message from the server shows that it is reachable. */
  probe: Message
  /** The socket is open. Introduce the client, and call `accepted` when the server has agreed. */
  onOpen: (token?: string) => void
  /** There is a newer token for the open connection. */
  onRenew: (token: string) => void
  onMessage: (message: Message) => void
  onState: (state: State, reason: string) => void
}

const FIRST_DELAY = 500
/** 1013 means that the server is at a limit, so the first delay is longer. */
const FIRST_DELAY_WHEN_FULL = 5_000
const LONGEST_DELAY = 30_000
const SILENCE = 25_000
const ANSWER = 10_000

/** An id that nobody can guess. (`crypto.randomUUID` is missing on pages that come over plain HTTP.) */
export const randomId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, '0')).join('')

/** Returns a message, or undefined for anything else, which another kind of server sends. */
const parse = (data: unknown): Message | undefined => {
  try {
    const message = JSON.parse(String(data))
    return typeof message?.type === 'string' ? message : undefined
  } catch {
    return undefined
  }
}

export class Connection {
  state: State = 'closed'
  private socket?: WebSocket
  /** Sockets that seemed dead. A close frame would end the session that is to be resumed, so they are closed later. */
  private abandoned: WebSocket[] = []
  private failures = 0
  private token?: string
  private retryTimer?: ReturnType<typeof setTimeout>
  private silenceTimer?: ReturnType<typeof setTimeout>
  private stopRenewing = () => {}
  private attempt = 0

  constructor (private readonly options: ConnectionOptions) {}

  connect () {
    globalThis.addEventListener?.('offline', this.giveUp)
    globalThis.addEventListener?.('online', this.retryNow)
    this.failures = 0
    void this.open()
  }

  close () {
    this.stop('closed', '')
    this.socket?.close()
    this.socket = undefined
  }

  /** Returns whether the message was sent; after a loss, the caller decides what is still worth sending. */
  send (message: Message) {
    if (this.socket?.readyState !== 1) return false
    this.socket.send(JSON.stringify(message))
    return true
  }

  /** The server has accepted this client: the next loss is a new one. */
  accepted () {
    this.failures = 0
    this.abandoned.splice(0).forEach(socket => socket.close())
    this.setState('connected', '')
    this.renewBeforeExpiry()
  }

  /** The server has refused the token. */
  refused (reason: string) {
    this.drop()
    this.lost(1008, reason)
  }

  /** The server cannot accept this client now, for instance because the room is full. */
  busy (reason: string) {
    this.drop()
    this.lost(1013, reason)
  }

  /** The connection seems dead. Nothing that still arrives through it counts. */
  private giveUp = () => {
    if (this.socket === undefined) return
    this.abandoned.push(this.socket)
    this.lost(1006, 'the network is down')
  }

  private retryNow = () => {
    if (this.state === 'waiting') void this.open()
  }

  private async open (refusedToken?: string) {
    clearTimeout(this.retryTimer)
    const attempt = ++this.attempt
    if (refusedToken === undefined) this.setState('connecting', '')
    try {
      this.token = await this.options.getToken?.(refusedToken)
    } catch (error) {
      if (attempt === this.attempt) this.lost(1006, `there is no token: ${error}`)
      return
    }
    if (attempt !== this.attempt) return // closed, or opened again, while the token was made
    if (refusedToken !== undefined) this.setState('connecting', '')
    const socket = new WebSocket(this.options.url)
    this.socket = socket
    socket.onopen = () => {
      if (this.socket !== socket) return
      this.heard()
      this.options.onOpen(this.token)
    }
    socket.onmessage = ({ data }) => {
      if (this.socket !== socket) return
      this.heard()
      const message = parse(data)
      if (message === undefined) {
        this.drop()
        return this.lost(1006, 'the server sent something that is not a message; is the address right?')
      }
      this.options.onMessage(message)
    }
    socket.onclose = ({ code, reason }) => {
      if (this.socket === socket) this.lost(code, reason)
    }
  }

  private lost (code: number, reason: string) {
    this.socket = undefined
    this.attempt++
    clearTimeout(this.retryTimer)
    clearTimeout(this.silenceTimer)
    this.stopRenewing()
    if (code === 4409) return this.stop('replaced', reason)
    const first = code === 1013 ? FIRST_DELAY_WHEN_FULL : FIRST_DELAY
    const longest = Math.min(LONGEST_DELAY, first * 2 ** this.failures++)
    // All clients lose a server at the same moment. They must not return at the same moment.
    const delay = longest * (0.5 + Math.random() / 2)
    if (code === 1008 && this.options.getToken !== undefined) {
      const refusedToken = this.token ?? ''
      this.setState('refused', reason)
      this.retryTimer = setTimeout(() => void this.open(refusedToken), delay)
    } else {
      this.setState('waiting', reason)
      // Without another token, 1008 means that this client is too fast.
      this.retryTimer = setTimeout(() => void this.open(), code === 1008 ? LONGEST_DELAY : delay)
    }
  }

  private renewBeforeExpiry () {
    this.stopRenewing()
    this.stopRenewing = renewInTime(this.token, this.options.getToken, newer => {
      this.token = newer
      this.options.onRenew(newer)
      this.renewBeforeExpiry()
    })
  }

  private heard () {
    clearTimeout(this.silenceTimer)
    this.silenceTimer = setTimeout(() => {
      this.send(this.options.probe)
      this.silenceTimer = setTimeout(this.giveUp, ANSWER)
    }, SILENCE)
  }

  private drop () {
    const socket = this.socket
    this.socket = undefined
    socket?.close()
  }

  private stop (state: State, reason: string) {
    globalThis.removeEventListener?.('offline', this.giveUp)
    globalThis.removeEventListener?.('online', this.retryNow)
    this.attempt++
    clearTimeout(this.retryTimer)
    clearTimeout(this.silenceTimer)
    this.stopRenewing()
    this.abandoned.splice(0).forEach(socket => socket.close())
    this.setState(state, reason)
  }

  private setState (state: State, reason: string) {
    this.state = state
    this.options.onState(state, reason)
  }
}
