// How long a change takes: until another page has it and says so, and until the sync server has stored it. Both times
// begin and end in this page, so clocks of two machines are not compared.

import * as Y from 'yjs'
import { byId } from './dom'
import type { People } from './people'

const SHOWN = 50
/** Milliseconds between two messages that say what this page has. */
const PACE = 50
const SVG = 'http://www.w3.org/2000/svg'

export class Plot {
  private readonly times: number[] = []

  constructor (private readonly id: string) {}

  add (milliseconds: number) {
    this.times.push(milliseconds)
    if (this.times.length > SHOWN) this.times.shift()
    const most = Math.max(...this.times)
    const line = document.createElementNS(SVG, 'polyline')
    // The first time alone is a dot.
    const shown = this.times.length === 1 ? [most, most] : this.times
    const points = shown.map((time, index) => `${index / (SHOWN - 1) * 200},${38 - time / most * 34}`)
    line.setAttribute('points', points.join(' '))
    byId(`${this.id}-plot`).replaceChildren(line)
    const middle = [...this.times].sort((a, b) => a - b)[Math.floor(this.times.length / 2)]
    byId(this.id).textContent = `${milliseconds.toFixed(0)} ms, median ${middle.toFixed(0)} ms`
  }
}

export class Delivery {
  private readonly plot = new Plot('delivered')
  /** My changes that nobody has confirmed: the clock after each, and when it was made. */
  private sent: { clock: number, at: number }[] = []
  private timer?: ReturnType<typeof setTimeout>
  private told = 0

  constructor (private readonly doc: Y.Doc, private readonly people: People) {
    doc.on('update', (_update, _origin, _doc, transaction) => {
      if (transaction.local) this.changed()
      else this.confirmSoon()
    })
    people.awareness.on('change', () => this.confirmed())
  }

  private changed () {
    if (this.people.others.length === 0) return
    this.sent.push({ clock: Y.getState(this.doc.store, this.doc.clientID), at: performance.now() })
    if (this.sent.length > SHOWN) this.sent.shift()
  }

  private confirmSoon () {
    this.timer ??= setTimeout(() => {
      this.timer = undefined
      this.told = performance.now()
      const seen = this.people.others.map(([client]) => [client, Y.getState(this.doc.store, client)])
      this.people.set('seen', Object.fromEntries(seen))
    }, Math.max(0, this.told + PACE - performance.now()))
  }

  private confirmed () {
    const clocks = this.people.others.map(([, { seen }]) => seen[this.doc.clientID])
    const clock = Math.max(0, ...clocks.filter(each => typeof each === 'number'))
    const arrived = this.sent.filter(change => change.clock <= clock)
    this.sent = this.sent.filter(change => change.clock > clock)
    if (arrived.length > 0) this.plot.add(performance.now() - arrived[arrived.length - 1].at)
  }
}
