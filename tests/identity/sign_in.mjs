// What a person does at the pages of a provider, whatever it asks for.

export const text = (page) => page.$eval("body", (body) => body.innerText);

export async function press(page, selector) {
  await Promise.all([page.waitForNavigation(), page.click(selector)]);
}

// Answers until the provider asks for nothing more, or sends the browser elsewhere.
export async function signIn(page, account) {
  const provider = new URL(page.url()).origin;
  while (new URL(page.url()).origin === provider) {
    if (await page.$("input[name=login]")) {
      // The provider may have filled it in from the login hint.
      await page.click("input[name=login]", { count: 3 });
      await page.type("input[name=login]", account);
      await page.type("input[name=password]", "any");
      await press(page, "button[type=submit], input[type=submit]");
    } else if (await page.$(`input[name=user][value="${account}"]`)) {
      await page.click(`input[name=user][value="${account}"]`);
      await press(page, "button[value=yes]");
    } else if (await page.$("form button[type=submit]")) {
      await press(page, "form button[type=submit]");
    } else {
      return;
    }
  }
}
