// A person with a real browser, scripts switched off: `chromium.mjs MODULES LINK ACCOUNT SERVER`.
// Opens the link of `mailferry web`, presses Connect, signs in at the provider and says Yes, waits for
// the page to go on by itself, and presses Test. Prints as JSON what the person saw.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { press, signIn, text } from "./sign_in.mjs";

const [modules, link, account, server] = process.argv.slice(2);
const { default: puppeteer } = await import(`${modules}/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js`);

const profile = mkdtempSync(join(tmpdir(), "mailferry-chromium-"));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM,
  headless: true,
  acceptInsecureCerts: true,
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});

const light = (page) => page.$eval(".light", (light) => `${light.className}: ${light.innerText}`);

async function open() {
  const page = await browser.newPage();
  await page.setJavaScriptEnabled(false);
  // A small telephone.
  await page.setViewport({ width: 360, height: 740 });
  return page;
}

const saw = { width: 0 };

// How wide our page is; wider than the window, it scrolls sideways.
async function measure(page) {
  saw.width = Math.max(saw.width, await page.$eval("html", (html) => html.scrollWidth));
}

try {
  const page = await open();
  await page.goto(link);
  await measure(page);
  await press(page, `a[href="/servers"]`);
  saw.before = await light(page);
  await measure(page);
  await press(page, `form[action="/connect/${server}"] button`);
  await measure(page);
  const provider = await page.$eval("a.main", (there) => there.href);
  const tab = await open();
  await tab.goto(provider);
  await signIn(tab, account);
  saw.back = await text(tab);
  await page.bringToFront();
  await page.waitForSelector(`form[action="/test/${server}"]`, { timeout: 30000 });
  saw.after = await light(page);
  await measure(page);
  await press(page, `form[action="/test/${server}"] button`);
  saw.test = await text(page);
  await measure(page);
} catch (error) {
  saw.error = String(error);
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(saw));
