// The shared document: nodes, connections and properties, as a small part of an OpenNoodl project.

import * as Y from 'yjs'
import { randomId } from './client/connection'

export interface Place { x: number, y: number }
export interface Wire { from: string, to: string }

const KINDS = ['Text', 'Image', 'Button', 'Group', 'Number', 'Query']

export class Project {
  readonly doc = new Y.Doc()
  /** Position of each node. Two people who move one node at once get one position, not a mixture. */
  readonly nodes = this.doc.getMap<Place>('nodes')
  readonly connections = this.doc.getMap<Wire>('connections')
  /** `<node>/name`: a flat map, because two people may create the properties of one node at once. */
  readonly properties = this.doc.getMap<string>('properties')
  readonly undo = new Y.UndoManager([this.nodes, this.connections, this.properties], { captureTimeout: 400 })

  name (node: string) {
    return this.properties.get(`${node}/name`) ?? 'Node'
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
      this.connections.forEach(({ from, to }, key) => {
        if (from === node || to === node) this.connections.delete(key)
      })
    })
  }
}
