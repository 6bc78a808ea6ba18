// The shared document: nodes, connections and properties, as a small part of an OpenNoodl project.

import * as Y from 'yjs'
import { randomId } from './client/connection'

export interface Place { x: number, y: number }
export interface Wire { from: string, to: string }

/** The canvas. */
export const WIDTH = 1200
export const HEIGHT = 720

/** The nearest place at which a whole node is on the canvas. */
export const inside = ({ x, y }: Place): Place =>
  ({ x: Math.round(Math.min(Math.max(x, 0), WIDTH - 120)), y: Math.round(Math.min(Math.max(y, 0), HEIGHT - 48)) })

/** Returns a place on the canvas, or undefined if the value is none. */
export const toPlace = (value: unknown): Place | undefined => {
  const { x, y } = (value ?? {}) as Partial<Place>
  return typeof x === 'number' && typeof y === 'number' && Number.isFinite(x + y) ? inside({ x, y }) : undefined
}

const KINDS = ['Text', 'Image', 'Button', 'Group', 'Number', 'Query']

/**
 * The content is read through `places`, `wires` and `name`: they leave out what another program wrote with other types.
 */
export class Project {
  readonly doc = new Y.Doc()
  /** Position of each node. Two people who move one node at once get one position, not a mixture. */
  readonly nodes = this.doc.getMap<Place>('nodes')
  readonly connections = this.doc.getMap<Wire>('connections')
  /** `<node>/name`: a flat map, because two people may create the properties of one node at once. */
  readonly properties = this.doc.getMap<string>('properties')
  readonly undo = new Y.UndoManager([this.nodes, this.connections, this.properties], { captureTimeout: 400 })

  /** The nodes with their places. */
  get places (): Map<string, Place> {
    return new Map([...this.nodes].flatMap(([node, value]) => {
      const place = toPlace(value)
      return place === undefined ? [] : [[node, place]]
    }))
  }

  place (node: string) {
    return toPlace(this.nodes.get(node))
  }

  /** The connections by key. */
  get wires (): [string, Wire][] {
    return [...this.connections].filter(([, wire]) => typeof wire?.from === 'string' && typeof wire.to === 'string')
  }

  name (node: string) {
    const name: unknown = this.properties.get(`${node}/name`)
    return typeof name === 'string' ? name.slice(0, 60) : 'Node'
  }

  add (place: Place) {
    const node = randomId().slice(0, 8)
    this.undo.stopCapturing()
    this.doc.transact(() => {
      this.nodes.set(node, place)
      this.properties.set(`${node}/name`, KINDS[this.nodes.size % KINDS.length])
    })
    return node
  }

  move (node: string, place: Place) {
    if (this.nodes.has(node)) this.nodes.set(node, place)
  }

  rename (node: string, name: string) {
    this.undo.stopCapturing()
    this.properties.set(`${node}/name`, name)
  }

  connect (from: string, to: string) {
    // The key is the pair, so that two people who connect the same nodes make one connection.
    if (from !== to) this.connections.set(`${from}>${to}`, { from, to })
  }

  remove (node: string) {
    this.undo.stopCapturing()
    this.doc.transact(() => {
      this.nodes.delete(node)
      this.properties.delete(`${node}/name`)
      for (const [key, { from, to }] of this.wires) if (from === node || to === node) this.connections.delete(key)
    })
  }
}
