// The canvas: nodes that are dragged, connected and renamed, with the pointer or the keyboard.

import { byId, element, say, set, setStyle, soon } from './dom'
import type { People } from './people'
import { inside, type Place, type Project, type Wire } from './project'

const STEP = 24
/** Where new nodes go: from the corner of what is in sight, in columns and rows. */
const MARGIN = 48
const COLUMN = 168
const ROW = 96
const ROWS = 7
const SVG = 'http://www.w3.org/2000/svg'
/** Milliseconds between two messages of one drag or cursor. */
const PACE = 40

export class Editor {
  private selected: string | null = null
  private connecting = false
  private readonly canvas = byId('canvas')
  private readonly wires = byId('wires')
  private readonly buttons = new Map<string, HTMLButtonElement>()
  private readonly paths = new Map<string, SVGPathElement>()

  constructor (private readonly project: Project, private readonly people: People, private readonly readOnly: boolean) {
    const drawSoon = soon(() => this.draw())
    for (const type of [project.nodes, project.connections, project.properties]) {
      type.observe((_event, { local }) => local ? this.draw() : drawSoon())
    }
    project.undo.on('stack-item-added', () => this.drawTools())
    project.undo.on('stack-item-popped', () => this.drawTools())
    this.listen()
    this.draw()
  }

  /** Draws what has changed. The buttons of nodes stay, and with them the focus. */
  draw () {
    const { places, wires } = this.project
    const selections = new Map(this.people.others.map(([, { user, selected }]) => [selected, user]))
    places.forEach((place, node) => {
      const button = this.buttons.get(node) ?? this.create(node)
      const by = selections.get(node)
      const name = this.project.name(node)
      if (button.firstChild!.textContent !== name) button.firstChild!.textContent = name
      setStyle(button, 'left', `${place.x}px`)
      setStyle(button, 'top', `${place.y}px`)
      setStyle(button, '--by', by?.color ?? '')
      set(button, 'aria-pressed', String(node === this.selected))
      set(button, 'data-by', by?.name)
      button.classList.toggle('target', this.connecting && node !== this.selected)
    })
    this.buttons.forEach((button, node) => {
      if (places.has(node)) return
      button.remove()
      this.buttons.delete(node)
      if (node === this.selected) this.select(null)
    })
    this.drawWires(places, wires)
    byId('empty').hidden = places.size > 0
    this.drawTools()
  }

  private drawWires (places: Map<string, Place>, wires: [string, Wire][]) {
    const gone = new Set(this.paths.keys())
    for (const [key, { from, to }] of wires) {
      const [start, end] = [places.get(from), places.get(to)]
      if (start === undefined || end === undefined) continue
      gone.delete(key)
      const path = this.paths.get(key) ?? this.createPath()
      this.paths.set(key, path)
      set(path, 'd', this.curve(this.output(from, start), { x: end.x, y: end.y + 20 }))
    }
    for (const key of gone) {
      this.paths.get(key)!.remove()
      this.paths.delete(key)
    }
  }

  private drawTools () {
    const node = this.selected !== null && !this.readOnly
    for (const id of ['rename', 'connect', 'remove']) byId<HTMLButtonElement>(id).disabled = !node
    byId<HTMLButtonElement>('add').disabled = this.readOnly
    byId<HTMLButtonElement>('undo').disabled = !this.project.undo.canUndo()
    byId<HTMLButtonElement>('redo').disabled = !this.project.undo.canRedo()
    byId('connect').setAttribute('aria-pressed', String(this.connecting))
  }

  private create (node: string) {
    const button = element('button', { type: 'button', className: 'node' }, '', element('span', { className: 'port' }))
    button.lastElementChild!.setAttribute('aria-hidden', 'true')
    button.addEventListener('pointerdown', event => this.press(node, event))
    button.addEventListener('click', () => this.activate(node))
    button.addEventListener('focus', () => this.connecting || this.select(node))
    button.addEventListener('dblclick', () => this.rename())
    button.addEventListener('keydown', event => this.key(node, event))
    this.buttons.set(node, button)
    this.canvas.append(button)
    return button
  }

  private listen () {
    byId('add').addEventListener('click', () => this.add())
    byId('rename').addEventListener('click', () => this.rename())
    byId('remove').addEventListener('click', () => this.selected !== null && this.remove(this.selected))
    byId('connect').addEventListener('click', () => this.startConnecting(!this.connecting))
    byId('undo').addEventListener('click', () => this.project.undo.undo())
    byId('redo').addEventListener('click', () => this.project.undo.redo())
    document.addEventListener('keydown', event => {
      if (!(event.ctrlKey || event.metaKey) || event.target instanceof HTMLInputElement) return
      if (event.key === 'z' && !event.shiftKey) this.project.undo.undo()
      else if (event.key === 'y' || event.key.toLowerCase() === 'z') this.project.undo.redo()
      else return
      event.preventDefault()
    })
    this.canvas.addEventListener('dblclick', event => {
      if (event.target === this.canvas && !this.readOnly) this.project.add(this.place(event, 48, 20))
    })
    let told = 0
    this.canvas.addEventListener('pointermove', event => {
      if (event.timeStamp - told < PACE) return
      told = event.timeStamp
      this.people.set('cursor', this.place(event))
    })
    this.canvas.addEventListener('pointerleave', () => this.people.set('cursor', null))
  }

  private add () {
    const node = this.project.add(this.freePlace())
    this.buttons.get(node)?.focus()
  }

  /** Returns a place in sight where no node is; if there is none, a random one. */
  private freePlace () {
    const view = byId('view')
    const columns = Math.max(1, Math.floor((view.clientWidth - MARGIN - 120) / COLUMN) + 1)
    const taken = [...this.project.places.values()]
    for (let index = 0; index < columns * ROWS; index++) {
      const place = inside({
        x: view.scrollLeft + MARGIN + index % columns * COLUMN, y: view.scrollTop + MARGIN + Math.floor(index / columns) * ROW
      })
      if (!taken.some(({ x, y }) => Math.abs(x - place.x) < MARGIN && Math.abs(y - place.y) < MARGIN)) return place
    }
    return inside({ x: view.scrollLeft + Math.random() * view.clientWidth, y: view.scrollTop + Math.random() * view.clientHeight })
  }

  /** Moves a node, or draws a connection if the press was on its dot. */
  private press (node: string, event: PointerEvent) {
    if (this.connecting || this.readOnly || event.button !== 0) return
    const button = this.buttons.get(node)!
    const origin = this.project.place(node)
    if (origin === undefined) return // somebody has deleted it just now
    button.setPointerCapture(event.pointerId)
    const fromPort = event.target === button.lastElementChild
    const grip = this.place(event)
    const line = fromPort ? this.createPath() : undefined
    if (!fromPort) this.project.undo.stopCapturing()
    let told = 0
    let last: Place | null = null
    const move = (moved: PointerEvent) => {
      const now = this.place(moved)
      if (line !== undefined) return set(line, 'd', this.curve(this.output(node, origin), now))
      last = inside({ x: origin.x + now.x - grip.x, y: origin.y + now.y - grip.y })
      if (moved.timeStamp - told < PACE) return
      told = moved.timeStamp
      this.project.move(node, last)
    }
    const release = (released: PointerEvent) => {
      button.removeEventListener('pointermove', move)
      line?.remove()
      if (!fromPort) {
        if (last !== null) this.project.move(node, last)
        return
      }
      const target = document.elementFromPoint(released.clientX, released.clientY)?.closest('.node')
      for (const [other, otherButton] of this.buttons) if (otherButton === target) this.connect(node, other)
    }
    button.addEventListener('pointermove', move)
    button.addEventListener('pointerup', release, { once: true })
    button.addEventListener('pointercancel', release, { once: true })
  }

  private activate (node: string) {
    if (this.connecting && this.selected !== null) this.connect(this.selected, node)
    else this.select(node)
  }

  private connect (from: string, to: string) {
    this.project.undo.stopCapturing()
    this.project.connect(from, to)
    this.startConnecting(false)
  }

  private startConnecting (connecting: boolean) {
    this.connecting = connecting && this.selected !== null
    say('hint', this.connecting ? 'Now choose the node to connect to.' : '')
    this.draw()
  }

  private key (node: string, event: KeyboardEvent) {
    const move = ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] } as
      Record<string, [number, number]>)[event.key]
    if (this.readOnly || event.ctrlKey || event.metaKey) return
    const place = this.project.place(node)
    if (move !== undefined && place !== undefined) {
      this.project.move(node, inside({ x: place.x + move[0] * STEP, y: place.y + move[1] * STEP }))
    } else if (event.key === 'Enter' && !this.connecting) this.rename()
    else if (event.key === 'c') this.startConnecting(true)
    else if (event.key === 'Escape') this.startConnecting(false)
    else if (event.key === 'Delete') this.remove(node)
    else return
    event.preventDefault()
  }

  private rename () {
    const node = this.selected
    const place = node === null ? undefined : this.project.place(node)
    if (node === null || place === undefined || this.readOnly) return
    const input = element('input', { className: 'naming', value: this.project.name(node), maxLength: 60 })
    input.setAttribute('aria-label', 'Name of the node')
    input.style.left = `${place.x}px`
    input.style.top = `${place.y}px`
    let ended = false
    const end = (keep: boolean) => {
      if (ended) return
      ended = true
      const name = input.value.trim()
      const focused = document.activeElement === input
      input.remove() // which is a blur, too, and ends nothing again
      if (keep && name !== '' && name !== this.project.name(node)) this.project.rename(node, name)
      if (focused) this.buttons.get(node)?.focus()
    }
    input.addEventListener('blur', () => end(true))
    input.addEventListener('keydown', event => {
      if (event.key === 'Enter') end(true)
      if (event.key === 'Escape') end(false)
    })
    this.canvas.append(input)
    input.select()
  }

  private remove (node: string) {
    this.project.remove(node)
    byId('view').focus() // the focus was on the node, or on a button that is disabled now
  }

  private select (node: string | null) {
    if (node === this.selected) return
    this.selected = node
    this.people.set('selected', node)
    if (node === null) this.connecting = false
    this.draw()
  }

  private place (event: MouseEvent, left = 0, top = 0): Place {
    const corner = this.canvas.getBoundingClientRect()
    return inside({ x: event.clientX - corner.left - left, y: event.clientY - corner.top - top })
  }

  private output (node: string, { x, y }: Place): Place {
    return { x: x + (this.buttons.get(node)?.offsetWidth ?? 96), y: y + 20 }
  }

  private createPath () {
    const path = document.createElementNS(SVG, 'path')
    this.wires.append(path)
    return path
  }

  private curve (start: Place, end: Place) {
    const bend = Math.max(40, Math.abs(end.x - start.x) / 2)
    // A connection to the left on one height passes below the nodes, and not through them.
    const drop = end.x < start.x ? Math.max(0, 80 - Math.abs(end.y - start.y)) : 0
    return `M${start.x},${start.y} C${start.x + bend},${start.y + drop} ${end.x - bend},${end.y + drop} ${end.x},${end.y}`
  }
}
