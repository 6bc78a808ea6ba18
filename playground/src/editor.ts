// The canvas: nodes that are dragged, connected and renamed, with the pointer or the keyboard.

import { byId, element, say } from './dom'
import type { People } from './people'
import type { Place, Project } from './project'

const STEP = 24
const WIDTH = 1200
const HEIGHT = 720
const SVG = 'http://www.w3.org/2000/svg'
/** Milliseconds between two messages of one drag or cursor. */
const PACE = 40

export class Editor {
  private selected: string | null = null
  private connecting = false
  private readonly canvas = byId('canvas')
  private readonly wires = byId('wires')
  private readonly buttons = new Map<string, HTMLButtonElement>()

  constructor (private readonly project: Project, private readonly people: People, private readonly readOnly: boolean) {
    for (const type of [project.nodes, project.connections, project.properties]) type.observe(() => this.draw())
    project.undo.on('stack-item-added', () => this.drawTools())
    project.undo.on('stack-item-popped', () => this.drawTools())
    this.listen()
    this.draw()
  }

  /** Draws the nodes anew; their buttons stay, so that the focus does, too. */
  draw () {
    const selections = new Map(this.people.others.map(([, { user, selected }]) => [selected, user]))
    this.project.nodes.forEach(({ x, y }, node) => {
      const button = this.buttons.get(node) ?? this.create(node)
      const by = selections.get(node)
      button.style.left = `${x}px`
      button.style.top = `${y}px`
      button.firstChild!.textContent = this.project.name(node)
      button.setAttribute('aria-pressed', String(node === this.selected))
      button.classList.toggle('target', this.connecting && node !== this.selected)
      button.style.setProperty('--by', by?.color ?? '')
      if (by === undefined) delete button.dataset.by
      else button.dataset.by = by.name
    })
    this.buttons.forEach((button, node) => {
      if (this.project.nodes.has(node)) return
      button.remove()
      this.buttons.delete(node)
      if (node === this.selected) this.select(null)
    })
    this.wires.replaceChildren(...[...this.project.connections.values()].flatMap(({ from, to }) => {
      const [start, end] = [this.project.nodes.get(from), this.project.nodes.get(to)]
      return start === undefined || end === undefined ? [] : [this.wire(this.output(from, start), { x: end.x, y: end.y + 20 })]
    }))
    byId('empty').hidden = this.project.nodes.size > 0
    this.drawTools()
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
    const column = this.project.nodes.size
    const view = byId('view')
    const node = this.project.add(this.inside({
      x: view.scrollLeft + 48 + (column % 4) * 168, y: view.scrollTop + 48 + Math.floor(column / 4 % 5) * 96
    }))
    this.buttons.get(node)?.focus()
  }

  /** Moves a node, or draws a connection if the press was on its dot. */
  private press (node: string, event: PointerEvent) {
    if (this.connecting || this.readOnly || event.button !== 0) return
    const button = this.buttons.get(node)!
    button.setPointerCapture(event.pointerId)
    const fromPort = event.target === button.lastElementChild
    const grip = this.place(event)
    const origin = this.project.nodes.get(node)!
    const line = this.wire(grip, grip)
    if (fromPort) this.wires.append(line)
    else this.project.undo.stopCapturing()
    let told = 0
    let last: Place | null = null
    const move = (moved: PointerEvent) => {
      const now = this.place(moved)
      if (fromPort) return line.setAttribute('d', this.curve(this.output(node, origin), now))
      last = this.inside({ x: origin.x + now.x - grip.x, y: origin.y + now.y - grip.y })
      if (moved.timeStamp - told < PACE) return
      told = moved.timeStamp
      this.project.move(node, last)
    }
    const release = (released: PointerEvent) => {
      button.removeEventListener('pointermove', move)
      line.remove()
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
    if (move !== undefined) {
      const { x, y } = this.project.nodes.get(node)!
      this.project.move(node, this.inside({ x: x + move[0] * STEP, y: y + move[1] * STEP }))
    } else if (event.key === 'Enter' && !this.connecting) this.rename()
    else if (event.key === 'c') this.startConnecting(true)
    else if (event.key === 'Escape') this.startConnecting(false)
    else if (event.key === 'Delete') this.remove(node)
    else return
    event.preventDefault()
  }

  private rename () {
    const node = this.selected
    if (node === null || this.readOnly) return
    const place = this.project.nodes.get(node)!
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
    return this.inside({ x: event.clientX - corner.left - left, y: event.clientY - corner.top - top })
  }

  private inside ({ x, y }: Place): Place {
    return { x: Math.round(Math.min(Math.max(x, 0), WIDTH - 120)), y: Math.round(Math.min(Math.max(y, 0), HEIGHT - 48)) }
  }

  private output (node: string, { x, y }: Place): Place {
    return { x: x + (this.buttons.get(node)?.offsetWidth ?? 96), y: y + 20 }
  }

  private wire (start: Place, end: Place) {
    const path = document.createElementNS(SVG, 'path')
    path.setAttribute('d', this.curve(start, end))
    return path
  }

  private curve (start: Place, end: Place) {
    const bend = Math.max(40, Math.abs(end.x - start.x) / 2)
    return `M${start.x},${start.y} C${start.x + bend},${start.y} ${end.x - bend},${end.y} ${end.x},${end.y}`
  }
}
