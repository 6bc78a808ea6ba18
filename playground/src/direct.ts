// The direct path: y-webrtc between the pages, with the signaling server's ICE servers and a token that is renewed.

import type { Awareness } from 'y-protocols/awareness'
import { WebrtcProvider } from 'y-webrtc'
import type * as Y from 'yjs'

export interface DirectOptions {
  signaling: string
  room: string
  userId: string
  doc: Y.Doc
  awareness: Awareness
  onChange: () => void
}

export class Direct {
  private provider?: WebrtcProvider

  constructor (private readonly options: DirectOptions) {}

  /** `iceServers` may be empty: then two pages meet in one network only. Without a list, y-webrtc uses public ones. */
  start (iceServers: RTCIceServer[], token?: string) {
    if (this.provider !== undefined) return
    const { room, doc, awareness, onChange } = this.options
    this.provider = new WebrtcProvider(room, doc, {
      signaling: [this.address(token)],
      awareness,
      peerOpts: { config: { iceServers } }
    })
    for (const connection of this.provider.signalingConns) {
      // y-webrtc 10 signals also while its connection is opened again, and the browser throws then. The peers signal
      // anew when it is open. Remove this when y-webrtc waits.
      const send = connection.send.bind(connection)
      connection.send = (message: unknown) => { if (connection.connected) send(message) }
    }
    this.provider.on('peers', ({ added }) => {
      // `peers` tells of a call that begins, and nothing tells of one that succeeds but the connection itself.
      for (const id of added) this.provider?.room?.webrtcConns.get(id)?.peer.on('connect', onChange)
      onChange()
    })
    void this.provider.key.then(() => setTimeout(onChange)) // there is a room, and so an id, from now on
  }

  stop () {
    const { provider } = this
    if (provider === undefined) return
    this.provider = undefined
    const state = this.options.awareness.getLocalState()
    provider.disconnect()
    provider.destroy()
    // y-webrtc removes the awareness state twice, at once and when its key is there, and so also for the sync server.
    void provider.key.then(() => {
      this.options.awareness.setLocalState(state)
      this.options.onChange()
    })
  }

  /** y-webrtc knows no tokens: the open connection is told, and the address of the next one is changed. */
  renew (token: string) {
    const [connection] = this.provider?.signalingConns ?? []
    connection?.send({ type: 'register', userId: this.options.userId, token })
    if (connection !== undefined) connection.url = this.address(token)
  }

  /** The name of this page among y-webrtc's peers. */
  get id () {
    return this.provider?.room?.peerId
  }

  /** `connected` and `status` of y-webrtc say nothing about peers. Its connections do. */
  reaches (id: string | undefined) {
    return id !== undefined && this.provider?.room?.webrtcConns.get(id)?.connected === true
  }

  private address (token?: string) {
    return token === undefined ? this.options.signaling : `${this.options.signaling}/?token=${token}`
  }
}
