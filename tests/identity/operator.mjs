// An operator with a real browser: `operator.mjs MODULES LINK SHOTS`. Reads the overview while mail flows, finds a
// message that waits, reads why, copies the remedy, retries, and watches the page turn green without loading it
// again. Looks at every page light and dark, on a telephone and on a wide screen, with axe. Prints a line of JSON
// when the test has to do something, waits for a line in return, and prints at the end what the operator saw.
import { createInterface } from "node:readline";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [modules, link, shots] = process.argv.slice(2);
const { default: puppeteer } = await import(`${modules}/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js`);
const axe = readFileSync(`${modules}/axe-core/axe.min.js`, "utf8");
mkdirSync(shots, { recursive: true });

const profile = mkdtempSync(join(tmpdir(), "mailferry-chromium-"));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM,
  headless: true,
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function ask(what) {
  console.log(JSON.stringify({ ask: what }));
  return (await answers.next()).value;
}

const saw = { errors: [], findings: [], wide: [], names: [] };
const text = (page) => page.$eval("main", (main) => main.innerText);
const until = (page, words) =>
  page.waitForFunction((words) => document.querySelector("main").innerText.includes(words), { timeout: 60000 }, words);

async function press(page, selector) {
  await Promise.all([page.waitForNavigation(), page.click(selector)]);
}

// Looks at a page as it is: its width, axe's serious findings, and buttons with the same name.
async function look(page, path) {
  await page.goto(new URL(path, link));
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    for (const width of [360, 1200]) {
      await page.setViewport({ width, height: 900 });
      const found = await page.$eval("html", (html) => html.scrollWidth);
      if (found > width) saw.wide.push(`${path} at ${width}: ${found}`);
      const name = `${path.replace(/[^a-z0-9]+/gi, "_")}-${scheme}-${width}.png`;
      await page.screenshot({ path: join(shots, name), fullPage: true });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => axe.run());
      for (const { impact, id, nodes } of violations) {
        saw.findings.push(`${impact} ${id} on ${path}: ${nodes.map((node) => node.target).join(" ")}`);
      }
    }
  }
  const names = await page.$$eval("main button:not([hidden])", (all) =>
    all.map((button) => button.getAttribute("aria-label") ?? button.innerText));
  const twice = names.filter((name, place) => !name || names.indexOf(name) !== place);
  saw.names.push(...twice.map((name) => `${path}: ${name}`));
}

try {
  await browser.defaultBrowserContext().overridePermissions(new URL(link).origin, ["clipboard-read", "clipboard-write", "clipboard-sanitized-write"]);
  const page = await browser.newPage();
  page.on("pageerror", (error) => saw.errors.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") saw.errors.push(message.text()); });
  await page.goto(link);
  saw.first = await text(page);
  await ask("send");
  await page.waitForFunction(() => document.querySelector(".plots .delivered strong").innerText === "1", { timeout: 60000 });
  await ask("break");
  await until(page, "At least one server cannot be used");
  await press(page, 'a[href="/messages?state=waiting"]');
  saw.list = await text(page);
  await press(page, "tbody th a");
  saw.story = await text(page);
  await page.click("button[data-copy]");
  await until(page, "Copied");
  saw.copied = await page.evaluate(() => navigator.clipboard.readText());
  await ask("mend");
  await press(page, 'form[action$="/retry"] button');
  await until(page, "delivered by notifications");
  saw.after = await text(page);
  const story = new URL(page.url()).pathname;
  await page.goto(new URL("/servers", link));
  await page.waitForSelector(".light.green", { timeout: 60000 });
  // In a browser context that allows axe's script; the page's own policy forbids it.
  const inspected = await browser.newPage();
  await inspected.setBypassCSP(true);
  for (const path of ["/", "/?span=month", "/servers", "/messages", "/messages?state=waiting", "/messages?state=failed", story, "/route?from=jane@example.com", "/errors", "/settings"]) {
    await look(inspected, path);
  }
} catch (error) {
  saw.error = String(error.stack);
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(saw));
process.exit(0);
