// What a test file begins and ends with: a broker, a browser, a page; and hands to use the page with.
import { Broker } from './broker.mjs';
import { launch, visit } from './browser.mjs';

/** Starts what a test file needs: `stage.broker`, `stage.browser`, `stage.visitor`, `stage.page`. */
export async function begin({ flags = [] } = {}) {
  const stage = { broker: await Broker.start(flags) };
  stage.end = async () => {
    await stage.browser?.close();
    await stage.broker.stop();
  };
  try {
    stage.browser = await launch();
    stage.visitor = await visit(stage.browser, stage.broker);
    stage.page = stage.visitor.page;
    return stage;
  } catch (error) {
    await stage.end();
    throw error;
  }
}

/** Hands for the page that `pageOf` gives: things are found by the words a person sees. */
export function hands(pageOf) {
  const dialog = () => pageOf().getByRole('dialog');
  const press = (name, within = pageOf()) => within.getByRole('button', { name, exact: true }).click();
  const field = (name, within = pageOf()) => within.getByLabel(name, { exact: true });
  const told = (text) => pageOf().locator('.toasts').getByText(text).waitFor();
  return { dialog, press, field, told };
}
