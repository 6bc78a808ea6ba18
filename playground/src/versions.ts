// The versions of the document on the sync server: a timeline, a preview, and the restoration of one.

import * as Y from 'yjs'
import type { GetToken } from './client/token'
import { byId, say, soon } from './dom'
import { HEIGHT, Project, WIDTH } from './project'

interface Version { time: string, bytes: number }

const SVG = 'http://www.w3.org/2000/svg'

/** Why there is no timeline, for the answers of a server that has none for this page. */
const REASONS: Record<number, string> = {
  401: 'The sync server asks for a token with the claim “services”.',
  403: 'Your token does not have the claim “services”, which versions need.',
  404: 'This sync server has no AUTH, and shows versions to nobody.'
}

const shown = (time: string) => new Date(time).toLocaleString()

const counted = (number: number, word: string) => `${number} ${word}${number === 1 ? '' : 's'}`

const draw = (project: Project) => {
  const picture = byId('version-picture')
  const create = (tag: string, attributes: Record<string, string | number>, text = '') => {
    const created = document.createElementNS(SVG, tag)
    for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, String(value))
    created.textContent = text
    return created
  }
  const places = project.places
  const wires = project.wires.flatMap(([, { from, to }]) => {
    const [start, end] = [places.get(from), places.get(to)]
    if (start === undefined || end === undefined) return []
    return [create('path', { d: `M${start.x + 96},${start.y + 20} L${end.x},${end.y + 20}` })]
  })
  const nodes = [...places].flatMap(([node, { x, y }]) => [
    create('rect', { x, y, width: 96, height: 40, rx: 6 }), create('text', { x: x + 48, y: y + 27 }, project.name(node))
  ])
  const [xs, ys] = [[...places.values()].map(({ x }) => x), [...places.values()].map(({ y }) => y)]
  const [left, top] = [Math.min(...xs, WIDTH) - 24, Math.min(...ys, HEIGHT) - 24]
  const width = Math.max(...xs.map(x => x + 144 - left), 480)
  const height = Math.max(...ys.map(y => y + 64 - top), 200)
  picture.setAttribute('viewBox', `${left} ${top} ${width} ${height}`)
  picture.replaceChildren(...wires, ...nodes)
}

export class Versions {
  private versions: Version[] = []
  /** Contents by time: a version never changes. */
  private readonly contents = new Map<string, Project>()
  private readonly panel = byId<HTMLDetailsElement>('versions')
  private readonly slider = byId<HTMLInputElement>('version')
  private readonly restoreButton = byId<HTMLButtonElement>('restore')

  /** `address` is the sync server's, for HTTP. */
  constructor (
    private readonly address: string, private readonly room: string,
    private readonly present: Project, private readonly getToken: GetToken
  ) {
    this.panel.addEventListener('toggle', () => this.panel.open && void this.load())
    this.slider.addEventListener('input', () => this.name())
    this.slider.addEventListener('change', () => void this.preview())
    this.restoreButton.addEventListener('click', () => void this.restore())
    present.doc.on('update', soon(() => this.panel.open && this.show()))
  }

  private get selected (): Version | undefined {
    return this.versions[this.slider.valueAsNumber]
  }

  /** Gets the list. The newest version is selected. */
  private async load () {
    const answer = await this.ask('')
    this.versions = answer?.versions ?? []
    byId('timeline').hidden = this.versions.length === 0
    if (answer !== undefined) this.say(this.versions.length === 0 ? 'The sync server has no version of this document yet.' : '')
    this.slider.max = String(Math.max(0, this.versions.length - 1))
    this.slider.value = this.slider.max
    this.name()
    await this.preview()
  }

  private name () {
    const { selected } = this
    if (selected === undefined) return
    byId('version-time').textContent = `${shown(selected.time)} (${this.slider.valueAsNumber + 1} of ${this.versions.length})`
    this.slider.setAttribute('aria-valuetext', shown(selected.time))
    this.restoreButton.disabled = !this.contents.has(selected.time)
  }

  private async preview () {
    const { selected } = this
    if (selected === undefined) return
    if (!this.contents.has(selected.time)) {
      const answer = await this.ask(`/${selected.time}`)
      if (answer === undefined) return
      const project = new Project()
      Y.applyUpdate(project.doc, Uint8Array.from(atob(answer.update), byte => byte.charCodeAt(0)))
      this.contents.set(selected.time, project)
    }
    this.show()
  }

  /** Shows the selected version and how the present document differs, if its content is here. */
  private show () {
    const project = this.contents.get(this.selected?.time ?? '')
    if (project === undefined) return
    draw(project)
    this.name()
    const { present } = this
    const [then, now] = [project.places, present.places]
    const gone = [...then.keys()].filter(node => !now.has(node)).map(node => project.name(node))
    const newer = [...now.keys()].filter(node => !then.has(node)).map(node => present.name(node))
    say('version-content', [
      `${counted(then.size, 'node')}, ${counted(project.wires.length, 'connection')}.`,
      ...(gone.length > 0 ? [`Deleted since: ${gone.join(', ')}.`] : []),
      ...(newer.length > 0 ? [`Added since: ${newer.join(', ')}.`] : [])
    ].join(' '))
  }

  private async restore () {
    const { selected } = this
    if (selected === undefined) return
    this.restoreButton.disabled = true
    this.say('Restoring…')
    const answer = await this.ask(`/${selected.time}/restore`, 'POST')
    if (answer === undefined) return this.name()
    await this.load()
    this.say(answer.status === 'restoring'
      ? 'The restoration takes longer, and goes on.'
      : `The version of ${shown(selected.time)} is restored. The newest version is what it replaced.`)
    this.slider.focus()
  }

  /** Returns the answer; without one, the page shows the reason. */
  private async ask (path: string, method = 'GET') {
    const token = await this.getToken()
    try {
      const answer = await fetch(`${this.address}/rooms/${encodeURIComponent(this.room)}/versions${path}`, {
        method, headers: { Accept: 'application/json', ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }) }
      })
      const json = answer.headers.get('Content-Type')?.startsWith('application/json')
      const content = json ? await answer.json() : { error: await answer.text() }
      if (answer.ok) return content
      this.say(path === '' && REASONS[answer.status] || content.error)
    } catch (error) {
      this.say(`The versions cannot be reached: ${error}`)
    }
    return undefined
  }

  private say (text: string) {
    say('versions-state', text)
  }
}
