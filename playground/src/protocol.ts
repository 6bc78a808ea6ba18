// Names the messages of the log as the protocol pages do, so that each line links to its row there.

import * as decoding from 'lib0/decoding'
import type { Frame } from './network'

export interface Entry {
  server: Frame['server']
  direction: Frame['direction']
  /** Name of the message in `docs/protocol.md` of its server. */
  name: string
  summary: string
  bytes: number
}

/** Fields that are secret: whoever looks at a screen shall not read them. */
const SECRET = new Set(['token', 'resumeToken', 'credential'])

const SYNC = ['step-1', 'step-2', 'update']
const OTHERS: Record<number, string> = {
  1: 'awareness', 2: 'denied', 3: 'query-awareness', 100: 'acknowledgement', 101: 'token'
}

const hidden = (key: string, value: unknown) => SECRET.has(key) && value !== undefined ? '…' : value

const binary = (bytes: Uint8Array): Pick<Entry, 'name' | 'summary'> => {
  const decoder = decoding.createDecoder(bytes)
  const type = decoding.readVarUint(decoder)
  if (type === 0) return { name: SYNC[decoding.readVarUint(decoder)], summary: '' }
  const name = OTHERS[type] ?? String(type)
  if (type === 100) return { name, summary: `${decoding.readVarUint(decoder)} stored` }
  if (type !== 1) return { name, summary: '' }
  const states = decoding.createDecoder(decoding.readVarUint8Array(decoder))
  return { name, summary: `${decoding.readVarUint(states)} client(s)` }
}

const text = (data: string): Pick<Entry, 'name' | 'summary'> => {
  const { type, ...fields } = JSON.parse(data)
  return { name: String(type), summary: JSON.stringify(fields, hidden).slice(0, 300) }
}

export const entry = ({ server, direction, data }: Frame): Entry => {
  const frame = { server, direction, bytes: data.length }
  try {
    return { ...frame, ...(typeof data === 'string' ? text(data) : binary(data)) }
  } catch {
    return { ...frame, name: 'unreadable', summary: '' } // not of such a server
  }
}

/** Where the protocol page has the row of a message. A `publish` from the server is the one that a client sent. */
export const link = ({ server, direction, name }: Entry) => {
  const sender = direction === 'to' || name === 'publish' ? 'client-' : 'server-'
  return `protocol/${server}.html#${server === 'sync' ? '' : sender}${name}`
}
