// Hocuspocus with its Redis extension, as its documentation sets several servers up, and with the two hooks of its
// Database extension on PostgreSQL: a document is loaded when it is opened, and stored whole once it has not changed for
// two seconds (ten at most).

import { Redis } from '@hocuspocus/extension-redis'
import { Server } from '@hocuspocus/server'
import pg from 'pg'
import * as Y from 'yjs'

const db = new pg.Pool({ connectionString: process.env.DATABASE })
db.on('error', () => {}) // of idle connections, when PostgreSQL restarts: the pool makes new ones
await db.query('create table if not exists documents (name text primary key, data bytea not null)').catch(error => {
  if (error.code !== '23505') throw error // the other server made it at the same time
})

const server = new Server({
  address: '127.0.0.1',
  port: Number(process.env.PORT),
  quiet: true,
  extensions: [new Redis({ host: '127.0.0.1', port: Number(process.env.REDIS_PORT) })],
  async onLoadDocument ({ documentName, document }) {
    const { rows } = await db.query('select data from documents where name = $1', [documentName])
    if (rows.length > 0) Y.applyUpdate(document, rows[0].data)
  },
  async onStoreDocument ({ documentName, document }) {
    await db.query(
      'insert into documents values ($1, $2) on conflict (name) do update set data = $2',
      [documentName, Buffer.from(Y.encodeStateAsUpdate(document))]
    )
  }
})

await server.listen()
