// The people in the room: names, cursors and selections are awareness states, which end with the page that set them.

import { Awareness } from 'y-protocols/awareness'
import { byId, element } from './dom'
import { type Place, toPlace } from './project'

export interface Person {
  user: { name: string, color: string }
  cursor: Place | null
  selected: string | null
  /** Id of this page among y-webrtc's peers. */
  direct?: string
  /** For each client, how many of its changes this page has: the answer that delivery times are measured by. */
  seen: Record<string, unknown>
}

/** Dark enough for white text. */
const COLORS = ['#2558b8', '#a3256f', '#1b6b35', '#8a4b08', '#6a3fb5', '#0b6a78', '#a12d2d', '#4d5a1e']

const colorOf = (name: string) =>
  COLORS[[...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)!) % 9973, 7) % COLORS.length]

/** Returns what an awareness state says in the types of this page, or undefined if it says no name. */
const toPerson = (state: any): Person | undefined => {
  const { user, cursor, selected, direct, seen } = state ?? {}
  if (typeof user?.name !== 'string') return undefined
  const name = user.name.slice(0, 40)
  return {
    user: { name, color: COLORS.includes(user.color) ? user.color : colorOf(name) },
    cursor: toPlace(cursor) ?? null,
    selected: typeof selected === 'string' ? selected : null,
    direct: typeof direct === 'string' ? direct : undefined,
    seen: seen ?? {}
  }
}

export class People {
  constructor (readonly awareness: Awareness, name: string) {
    awareness.setLocalState({ user: { name, color: colorOf(name) }, cursor: null, selected: null, seen: {} })
    awareness.on('change', () => this.chooseColor())
  }

  /** Takes a free color if another user has this one; of two such users, the one whose name is later in the alphabet. */
  private chooseColor () {
    const me = this.awareness.getLocalState()?.user as Person['user'] | undefined
    if (me === undefined) return
    const users = this.others.map(([, { user }]) => user).filter(({ name }) => name !== me.name)
    if (!users.some(({ name, color }) => color === me.color && name < me.name)) return
    const free = COLORS.find(color => users.every(user => user.color !== color))
    if (free !== undefined) this.set('user', { ...me, color: free })
  }

  set<K extends keyof Person> (field: K, value: Person[K]) {
    this.awareness.setLocalStateField(field, value)
  }

  /** The people who have said a name; programs that share the room without one are left out. */
  get all (): [number, Person][] {
    return [...this.awareness.getStates()].flatMap(([client, state]) => {
      const person = toPerson(state)
      return person === undefined ? [] : [[client, person]]
    })
  }

  get others () {
    return this.all.filter(([client]) => client !== this.awareness.clientID)
  }

  show (pathTo: (person: Person) => string) {
    byId('people').replaceChildren(...this.all.map(([client, person]) => {
      const me = client === this.awareness.clientID
      const shown = element('li', {}, `${person.user.name} `, element('small', {}, me ? 'you' : pathTo(person)))
      shown.style.background = person.user.color
      return shown
    }))
    byId('cursors').replaceChildren(...this.others.flatMap(([, { user, cursor }]) => {
      if (cursor === null) return []
      const shown = element('div', { className: 'cursor' }, user.name)
      shown.style.setProperty('--by', user.color)
      shown.style.transform = `translate(${cursor.x}px, ${cursor.y}px)`
      return [shown]
    }))
  }
}
