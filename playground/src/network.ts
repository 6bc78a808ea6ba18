// Sees every WebSocket message of this page, and can take the network away from the page. For the playground alone:
// the clients know nothing of it.

export interface Frame {
  server: 'signaling' | 'sync' | 'notification'
  direction: 'to' | 'from'
  data: string | Uint8Array
}

const FORGOTTEN_AFTER = 5_000

type Servers = Record<Frame['server'], string>

/** A socket to a server that cannot be reached. */
class Unreachable extends EventTarget {
  readyState = 0
  binaryType = 'blob'
  onopen: unknown
  onmessage: unknown
  onerror: ((event: Event) => void) | null = null
  onclose: ((event: CloseEvent) => void) | null = null

  constructor (readonly url: string) {
    super()
    setTimeout(() => {
      this.readyState = 3
      this.onerror?.(new Event('error'))
      this.onclose?.(new CloseEvent('close', { code: 1006 }))
    }, 50)
  }

  send () {}
  close () {}
}

export class Network {
  cut = false
  private readonly sockets = new Set<WebSocket>()
  /** Sockets that died for this page while the network was cut. Their servers have not heard of it. */
  private lost: WebSocket[] = []

  constructor (servers: Servers, private readonly onFrame: (frame: Frame) => void) {
    const network = this
    const Real = globalThis.WebSocket

    class Watched extends Real {
      private readonly server: Frame['server'] | undefined

      constructor (url: string | URL, protocols?: string | string[]) {
        super(url, protocols)
        this.server = (Object.keys(servers) as Frame['server'][]).find(name => String(url).startsWith(servers[name]))
        network.sockets.add(this)
        // These listeners come first, so a message that the cut network lost reaches nobody.
        this.addEventListener('message', event => {
          if (network.cut) return event.stopImmediatePropagation()
          network.tell(this.server, 'from', event.data)
        })
        this.addEventListener('close', () => network.sockets.delete(this))
      }

      send (data: string | ArrayBufferLike | Blob | ArrayBufferView<ArrayBufferLike>) {
        if (network.cut) return
        network.tell(this.server, 'to', data)
        super.send(data as string)
      }

      close (code?: number, reason?: string) {
        if (!network.cut) super.close(code, reason)
      }
    }

    globalThis.WebSocket = new Proxy(Watched, {
      construct: (target, [url, protocols], newTarget) =>
        network.cut ? new Unreachable(String(url)) : Reflect.construct(target, [url, protocols ?? []], newTarget)
    })
  }

  /** Takes the network away: no frame passes, and no server sees a close frame. */
  disconnect () {
    this.cut = true
    this.lost.push(...this.sockets)
    globalThis.dispatchEvent(new Event('offline'))
    for (const socket of [...this.sockets]) socket.dispatchEvent(new CloseEvent('close', { code: 1006 }))
  }

  reconnect () {
    this.cut = false
    globalThis.dispatchEvent(new Event('online'))
    // A real network would have lost them. A close frame ends a session, so it comes after the session was resumed.
    const lost = this.lost.splice(0)
    setTimeout(() => lost.forEach(socket => socket.close()), FORGOTTEN_AFTER)
  }

  private tell (server: Frame['server'] | undefined, direction: Frame['direction'], data: unknown) {
    if (server === undefined) return
    if (typeof data === 'string') this.onFrame({ server, direction, data })
    else if (data instanceof ArrayBuffer) this.onFrame({ server, direction, data: new Uint8Array(data) })
    else if (data instanceof Uint8Array) this.onFrame({ server, direction, data })
  }
}
