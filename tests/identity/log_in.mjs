// A person logs in to mailferry's page at the provider with a real browser, scripts switched off:
// `log_in.mjs MODULES PAGE ADDRESS ACCOUNT SHOTS`. PAGE is the page's URL, which ADDRESS serves. Prints as JSON what
// the person saw.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { press, signIn, text } from "./sign_in.mjs";

const [modules, url, address, account, shots] = process.argv.slice(2);
const { default: puppeteer } = await import(`${modules}/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js`);
const axe = readFileSync(`${modules}/axe-core/axe.min.js`, "utf8");
mkdirSync(shots, { recursive: true });

const profile = mkdtempSync(join(tmpdir(), "mailferry-chromium-"));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM,
  headless: true,
  acceptInsecureCerts: true,
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", `--host-resolver-rules=MAP ${new URL(url).hostname} ${address}`],
});

const saw = { findings: [] };
try {
  const inspected = await browser.newPage();
  await inspected.setBypassCSP(true);
  await inspected.setViewport({ width: 360, height: 740 });
  await inspected.goto(new URL("/log-in", url));
  await inspected.screenshot({ path: join(shots, "log-in.png") });
  await inspected.evaluate(axe);
  const { violations } = await inspected.evaluate(() => axe.run());
  saw.findings = violations.map(({ impact, id }) => `${impact} ${id}`);
  const page = await browser.newPage();
  await page.setJavaScriptEnabled(false);
  await page.goto(url);
  saw.first = await text(page);
  await press(page, "a.main");
  await signIn(page, account);
  // The page goes on to the overview by itself.
  await page.waitForSelector("nav", { timeout: 30000 });
  saw.last = await text(page);
  saw.path = new URL(page.url()).pathname;
} catch (error) {
  saw.error = String(error.stack);
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(saw));
