// The room of the editors: members, signals between them, invites, and the place that a lost connection resumes.
// Protocol: opennoodl-signaling-server/docs/protocol.md

import { Connection, type Message, randomId, type State } from './connection'
import type { GetToken } from './token'

export interface Peer {
  peerId: string
  userId: string
  metadata: any
}

export interface Joined {
  /** False means a fresh start: close all WebRTC connections, then call every peer. */
  resumed: boolean
  peers: Peer[]
  iceServers: RTCIceServer[]
}

export interface Invite {
  from: string
  roomId: string
  sessionInfo: any
}

export interface SignalingOptions {
  url: string
  room: string
  userId: string
  metadata?: object
  /** Title and limits of the session; they count if this client is the first in the room. */
  session?: object
  getToken?: GetToken
  onState?: (state: State, reason: string) => void
  onJoined?: (joined: Joined) => void
  /** A peer joined, left, or changed its metadata. A peer that joins calls; this client waits for the call. */
  onPeers?: (peers: Peer[]) => void
  onSignal?: (from: string, signal: any) => void
  onInvite?: (invite: Invite) => void
  onError?: (code: string, sentence: string) => void
}

export class Signaling {
  /** One page is one peer. A page that reloads is another one. */
  readonly peerId = randomId()
  readonly peers = new Map<string, Peer>()
  /** Whether the server has this client in the room now. */
  joined = false
  private readonly connection: Connection
  private metadata: object
  private resumeToken?: string
  /** How many of the messages that the server repeats have arrived since the last `joined`. */
  private received = 0
  /** Signals of a moment without a connection. They are sent if the place is resumed. */
  private signals: Message[] = []
  private invites: { to: string, requestId: string, resolve: (delivered: boolean) => void, reject: (e: Error) => void }[] = []

  constructor (private readonly options: SignalingOptions) {
    this.metadata = options.metadata ?? {}
    this.connection = new Connection({
      url: options.url,
      getToken: options.getToken,
      probe: { type: 'ping' },
      onOpen: token => this.join(token),
      onRenew: token => this.connection.send({ type: 'register', userId: options.userId, token }),
      onMessage: message => this.handle(message),
      onState: (state, reason) => {
        if (state !== 'connected') {
          this.joined = false
          this.invites.splice(0).forEach(({ reject }) => reject(new Error('the connection was lost')))
        }
        options.onState?.(state, reason)
      }
    })
  }

  /** Enters the room, and returns to it after each loss. */
  connect () {
    this.connection.connect()
  }

  /** Leaves the room for good. */
  leave () {
    this.connection.send({ type: 'leave' })
    this.connection.close()
    this.resumeToken = undefined
    this.peers.clear()
  }

  /** Sends WebRTC's offer, answer or candidate to a peer. */
  signal (to: string, signal: unknown) {
    const message = { type: 'signal', to, signal }
    if (!(this.joined && this.connection.send(message)) && this.resumeToken !== undefined) this.signals.push(message)
  }

  setMetadata (metadata: object) {
    this.metadata = metadata
    if (this.joined) this.connection.send({ type: 'metadata', metadata })
  }

  /** Invites a user into this room; resolves to false if the user is offline. Invites are not stored. */
  invite (to: string, sessionInfo: unknown): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const requestId = randomId()
      const message = { type: 'invite', targetUserId: to, roomId: this.options.room, sessionInfo, requestId }
      if (!this.joined || !this.connection.send(message)) return reject(new Error('there is no connection'))
      this.invites.push({ to, requestId, resolve, reject })
    })
  }

  private join (token?: string) {
    const { room, userId, session } = this.options
    this.connection.send({
      type: 'join',
      room,
      peerId: this.peerId,
      userId,
      metadata: this.metadata,
      session,
      token,
      resume: true,
      resumeToken: this.resumeToken,
      received: this.received
    })
  }

  private handle (message: Message) {
    switch (message.type) {
      case 'joined': return this.enter(message)
      case 'peer-joined':
        this.received++
        this.peers.set(message.peerId, { peerId: message.peerId, userId: message.userId, metadata: message.metadata })
        return this.tellPeers()
      case 'peer-updated': // not counted
        this.peers.set(message.peerId, { peerId: message.peerId, userId: message.userId, metadata: message.metadata })
        return this.tellPeers()
      case 'peer-left':
        this.received++
        this.peers.delete(message.peerId)
        return this.tellPeers()
      case 'signal':
        this.received++
        return this.options.onSignal?.(message.from, message.signal)
      case 'invite':
        return this.options.onInvite?.({ from: message.from, roomId: message.roomId, sessionInfo: message.sessionInfo })
      case 'invite-sent':
        return this.answered(({ to }) => to === message.to, ({ resolve }) => resolve(message.delivered))
      case 'error': return this.failed(message.code, message.error, message.requestId)
    }
  }

  private enter (message: Message) {
    this.joined = true
    this.received = 0
    this.resumeToken = message.resumeToken
    // The list has the peers that were there all the time; `peer-joined` of the others follows.
    this.peers.clear()
    for (const peer of message.peers) this.peers.set(peer.peerId, peer)
    this.connection.accepted()
    const resumed = message.resumed === true
    this.options.onJoined?.({ resumed, peers: message.peers, iceServers: message.iceServers ?? [] })
    this.tellPeers()
    const signals = this.signals.splice(0)
    if (resumed) signals.forEach(signal => this.connection.send(signal))
  }

  private failed (code: string, sentence: string, requestId?: string) {
    this.answered(invite => invite.requestId === requestId, ({ reject }) => reject(new Error(sentence)))
    this.options.onError?.(code, sentence)
    if (code === 'unauthorized' || code === 'forbidden') {
      if (!this.joined || code === 'unauthorized') this.connection.refused(sentence)
    } else if (!this.joined && requestId === undefined) {
      this.connection.busy(sentence) // room-full, peer-id-taken, auth-unavailable: later it may work
    }
  }

  private answered (which: (invite: Signaling['invites'][0]) => boolean, how: (invite: Signaling['invites'][0]) => void) {
    const index = this.invites.findIndex(which)
    if (index >= 0) how(this.invites.splice(index, 1)[0])
  }

  private tellPeers () {
    this.options.onPeers?.([...this.peers.values()])
  }
}
