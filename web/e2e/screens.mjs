// Every screen of the console, as `shots` and the tests of accessibility go through them.

/** To what the first row leads to. */
async function within(page) {
  await page.locator('main tbody a.to').first().click();
  await page.locator('main a.up').waitFor();
}

/** Name of the shot, address, and what is done there before it is looked at. */
export const SCREENS = [
  ['overview', '/'],
  ['first-message', '/start'],
  ['queues', '/queues'],
  ['queue', '/queues/%2F/orders.confirm'],
  ['queue-messages', '/queues/%2F/orders.confirm?tab=messages', (page) => page.locator('main ol button').first().waitFor()],
  ['queue-consumers', '/queues/%2F/orders.charge?tab=consumers'],
  ['queue-bindings', '/queues/%2F/orders.confirm?tab=bindings'],
  ['queue-publish', '/queues/%2F/orders.confirm?tab=publish'],
  ['exchanges', '/exchanges'],
  ['exchange', '/exchanges/%2F/orders'],
  ['connections', '/connections'],
  ['connection', '/connections', (page) => within(page)],
  ['channels', '/channels'],
  ['channel', '/channels', (page) => within(page)],
  ['consumers', '/consumers'],
  ['topology', '/topology'],
  ['explain', '/topology?explain=1&exchange=orders&key=order.placed&queue=orders.charge', async (page) => {
    await page.locator('main form').getByRole('button', { name: /^(Explain|解释)$/ }).click();
    await page.locator('svg .line.lit').first().waitFor();
  }],
  ['topology-table', '/topology?as=table'],
  ['rules', '/rules'],
  ['rule', '/rules/remind'],
  ['rule-test', '/rules/receipt?tab=test', async (page) => {
    await page.getByRole('button', { name: /^(Test|测试)$/ }).click();
    await page.getByText(/^(It would act|会执行)/).first().waitFor();
  }],
  ['rule-replay', '/rules/receipt?tab=replay'],
  ['rule-dead-letters', '/rules/remind?tab=dead-letters', (page) => page.locator('main ol button').first().click()],
  ['rule-history', '/rules/receipt?tab=history'],
  ['sources', '/sources'],
  ['source', '/sources/clock'],
  ['schedules', '/schedules'],
  ['schedule', '/schedules/%2F/nightly'],
  ['delayed', '/delayed'],
  ['delayed-messages', '/delayed/%2F/reminders'],
  ['topology-file', '/topology-file', async (page) => {
    const editor = page.getByRole('textbox').last();
    await editor.fill((await editor.inputValue()).replace('orders.charge: {}', 'orders.charge: {}\n  orders.archive: {}'));
    await page.getByRole('button', { name: /^(Plan|计划)$/ }).click();
    await page.getByText('orders.archive').first().waitFor();
  }],
  ['secrets', '/secrets'],
  ['users', '/users'],
  ['user', '/users/shop'],
  ['permissions', '/permissions'],
  ['vhosts', '/vhosts'],
  ['vhost', '/vhosts/%2F'],
  ['policies', '/policies'],
  ['policy', '/policies', async (page) => {
    await page.getByRole('button', { name: /orders-limits/ }).first().click();
    await page.getByRole('dialog').waitFor();
  }],
  ['definitions', '/definitions'],
  ['audit', '/audit'],
  ['node', '/node'],
];
