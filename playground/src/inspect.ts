// The views for developers: protocol messages, the document from inside, and the health of the servers.

import * as Y from 'yjs'
import { byId, element, soon } from './dom'
import type { Frame, Network } from './network'
import type { Project } from './project'
import { entry, link } from './protocol'

const LOGGED = 200
const HEALTH_SECONDS = 5

export class Log {
  private readonly lines: HTMLElement[] = []
  private readonly draw = soon(() => byId('log').replaceChildren(...this.lines))

  constructor () {
    byId('messages').addEventListener('toggle', () => this.draw())
  }

  add (frame: Frame) {
    const logged = entry(frame)
    const name = element('a', { href: link(logged), target: '_blank', rel: 'noopener' }, logged.name)
    const time = new Date().toTimeString().slice(0, 8)
    const arrow = logged.direction === 'to' ? '↑' : '↓'
    this.lines.unshift(element('li', {}, `${time} ${logged.server} ${arrow} `, name,
      element('small', {}, ` ${logged.bytes} bytes ${logged.summary}`)))
    this.lines.length = Math.min(this.lines.length, LOGGED)
    if (byId<HTMLDetailsElement>('messages').open) this.draw()
  }
}

export const inspect = ({ doc, nodes, connections, properties }: Project) => {
  const panel = byId<HTMLDetailsElement>('document')
  const own = new Set<unknown>([nodes, connections, properties])
  const draw = soon(() => {
    if (!panel.open) return
    const clients = [...Y.decodeStateVector(Y.encodeStateVector(doc))]
    const others = [...doc.share].filter(([, type]) => !own.has(type))
    const facts: [string, string][] = [
      ['nodes (Y.Map)', String(nodes.size)],
      ['connections (Y.Map)', String(connections.size)],
      ['properties (Y.Map)', String(properties.size)],
      // A type that no code of this page has opened has no kind yet, and no JSON.
      ...others.map(([name, type]): [string, string] => [`${name} (of another app)`, `${type._map.size} keys, length ${type._length}`]),
      ['size as one update', `${Y.encodeStateAsUpdate(doc).length} bytes`],
      ['client of this page', String(doc.clientID)],
      ...clients.map(([client, clock]): [string, string] => [`state vector: ${client}`, `clock ${clock}`])
    ]
    byId('facts').replaceChildren(...facts.map(([name, value]) =>
      element('tr', {}, element('th', { scope: 'row' }, name), element('td', {}, value))))
    byId('json').textContent = JSON.stringify(doc.toJSON(), (_, value) => typeof value === 'bigint' ? `${value}n` : value, 1)
  })
  doc.on('update', draw)
  panel.addEventListener('toggle', draw)
}

export class Servers {
  private readonly rows = new Map<string, { health: HTMLElement, state: HTMLElement }>()

  constructor (private readonly addresses: Record<Frame['server'], string>, private readonly network: Network) {
    for (const name of Object.keys(addresses)) {
      const row = { health: element('td'), state: element('td') }
      this.rows.set(name, row)
      byId('servers').append(element('tr', {}, element('th', { scope: 'row' }, name), row.health, row.state))
    }
    void this.watch()
  }

  /** How this page is connected to a server. */
  state (server: Frame['server'], state: string, reason: string) {
    const { state: cell } = this.rows.get(server)!
    cell.textContent = reason === '' ? state : `${state}: ${reason}`
    cell.className = ['connected', 'saved', 'saving'].includes(state) ? 'good' : 'bad'
  }

  private async watch () {
    await Promise.all(Object.entries(this.addresses).map(async ([name, address]) => {
      const cell = this.rows.get(name)!.health
      if (this.network.cut) {
        cell.textContent = 'the network is cut'
        cell.className = 'bad'
        return
      }
      try {
        const answer = await fetch(`${address.replace(/^ws/, 'http')}/health`, { signal: AbortSignal.timeout(4000) })
        const { status, version } = await answer.json()
        cell.textContent = `${status} (${version})`
        cell.className = answer.ok ? 'good' : 'bad'
      } catch {
        cell.textContent = 'unreachable, or it does not allow this page'
        cell.className = 'bad'
      }
    }))
    setTimeout(() => void this.watch(), HEALTH_SECONDS * 1000)
  }
}
