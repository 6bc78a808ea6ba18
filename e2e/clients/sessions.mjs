// Two or more people typing into one text, as Yjs updates.
// Every edit was made on exactly one version of the text, so each author has a plain document that is brought to
// just that version before the edit is made in it.

import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import * as Y from 'yjs'
import { randomFrom, textOf } from './documents.mjs'

class Author {
  /** @param {number} index  which decides who comes first where two type in one place */
  constructor (index) {
    this.name = `author ${index}`
    this.doc = new Y.Doc()
    this.doc.clientID = index + 1
    this.edits = []
  }
}

class Session {
  constructor (count) {
    this.authors = Array.from({ length: count }, (_, index) => new Author(index))
    this.edits = [] // {author, update, needs: how far it builds on the work of each author}
    this.read = this.authors.map(() => this.authors.map(() => 0)) // who has how many edits of whom
  }

  /** How many edits each author has made by now. */
  get version () {
    return this.authors.map(author => author.edits.length)
  }

  /** Let an author take in what the others had done by a version. */
  catchUp (index, version) {
    this.authors.forEach((other, from) => {
      if (from === index) return
      const edits = other.edits.slice(this.read[index][from], version[from])
      for (const { update } of edits) Y.applyUpdate(this.authors[index].doc, update)
      this.read[index][from] += edits.length
    })
  }

  edit (index, change) {
    const author = this.authors[index]
    const needs = this.authors.map(({ doc }) => Y.getState(author.doc.store, doc.clientID))
    const keep = update => {
      const edit = { author, update, needs }
      author.edits.push(edit)
      this.edits.push(edit)
    }
    author.doc.on('update', keep)
    author.doc.transact(() => change(textOf(author.doc)))
    author.doc.off('update', keep)
  }

  /** Let everybody read everything; then each says a last word, by which a client knows that it has it all. */
  conclude () {
    const { version } = this
    this.authors.forEach((_, index) => this.catchUp(index, version))
    this.texts = this.authors.map(({ doc }) => textOf(doc).toString())
    this.authors.forEach(({ doc, name }, index) => this.edit(index, () => doc.getMap('finished').set(name, true)))
    return this
  }
}

/** A recording of the collection josephg/editing-traces. */
export const recorded = path => {
  const { numAgents, txns, endContent } = JSON.parse(gunzipSync(readFileSync(path)))
  const session = new Session(numAgents)
  const versions = []
  for (const { parents, agent, patches } of txns) {
    const version = session.authors.map((_, index) => Math.max(0, ...parents.map(parent => versions[parent][index])))
    session.catchUp(agent, version)
    session.edit(agent, text => {
      for (const [at, deleted, inserted] of patches) {
        // Positions count code points, Y.Text counts UTF-16 units: the same as long as no surrogates are typed.
        if (/[\uD800-\uDFFF]/.test(inserted)) throw new Error('beyond the basic plane positions must be converted')
        if (deleted > 0) text.delete(at, deleted)
        if (inserted !== '') text.insert(at, inserted)
      }
    })
    version[agent] = session.authors[agent].edits.length
    versions.push(version)
  }
  session.conclude()
  return { session, endContent }
}

/** Two who type runs of letters here and there, rub some out, and only now and then see what the other has done. */
export const invented = (seed, edits) => {
  const random = randomFrom(seed)
  const below = limit => Math.floor(random() * limit)
  const session = new Session(2)
  const cursors = [0, 0]
  while (session.edits.length < edits) {
    const who = below(2)
    if (below(8) === 0) session.catchUp(who, session.version.map(count => below(count + 1)))
    session.edit(who, text => {
      const at = Math.min(below(20) === 0 ? below(text.length + 1) : cursors[who], text.length)
      const erase = below(6) === 0 && at > 0
      if (erase) text.delete(at - 1, 1)
      else text.insert(at, 'etaoin shrdlu'[below(13)])
      cursors[who] = erase ? at - 1 : at + 1
    })
  }
  return { session: session.conclude() }
}
