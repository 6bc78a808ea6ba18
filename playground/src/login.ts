// The token of the page, and the dialog that asks the user for the next one.

import { claims, type GetToken } from './client/token'
import { byId } from './dom'

/** Why another token than this one is needed. */
const reason = (token?: string) => {
  if (token === undefined) return 'The servers ask for one.'
  const { exp } = claims(token)
  if (exp === undefined || exp * 1000 - Date.now() > 120_000) return 'The servers refused the former one.'
  const seconds = Math.ceil(exp - Date.now() / 1000)
  return seconds > 0 ? `The former one expires in ${seconds} seconds.` : 'The former one has expired.'
}

/** The token of this page; `first` until a client finds it refused or nearly expired, and then the user's next one. */
export const tokens = (first: string, onRenewed: (token: string) => void): GetToken => {
  let current = first === '' ? undefined : first
  let asking: Promise<string> | undefined
  const dialog = byId<HTMLDialogElement>('login')
  return async old => {
    if (old === undefined || old !== (current ?? '')) return current
    byId('login-reason').textContent = reason(current)
    asking ??= new Promise<string>(resolve => {
      dialog.showModal()
      dialog.addEventListener('close', () => resolve(byId<HTMLInputElement>('newer').value.trim()), { once: true })
    }).finally(() => {
      asking = undefined
      byId<HTMLInputElement>('newer').value = ''
    })
    current = await asking || undefined
    if (current !== undefined) onRenewed(current)
    return current
  }
}
