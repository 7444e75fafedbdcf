// A certified OpenID provider that we did not write, as a configuration may name it:
// `node provider.mjs MODULES PORT JWKS PAGE`: JWKS are the public keys of the app that signs, and PAGE is the URL of
// mailferry's page. The ID tokens of some accounts are spoiled; the account's name says how.
import { createPrivateKey, generateKeyPairSync, randomUUID } from "node:crypto";

const [modules, port, jwks, page] = process.argv.slice(2);
const { default: Provider } = await import(`${modules}/oidc-provider/lib/index.js`);
const { SignJWT, UnsecuredJWT, decodeJwt } = await import(`${modules}/jose/dist/webapi/index.js`);
// The keys pass through PEM: Node deadlocks if it collects garbage while it exports a key that it has just generated, because
// the object that generated the key has the same lock.
const [key, foreign] = [1, 2].map(() => {
  const pem = { publicKeyEncoding: { type: "spki", format: "pem" }, privateKeyEncoding: { type: "pkcs8", format: "pem" } };
  return createPrivateKey(generateKeyPairSync("rsa", { modulusLength: 2048, ...pem }).privateKey);
});
const kid = randomUUID();

const device = "urn:ietf:params:oauth:grant-type:device_code";
const app = { response_types: [], redirect_uris: [], grant_types: ["client_credentials"], scope: "mail" };
const provider = new Provider(`http://localhost:${port}`, {
  clients: [
    {
      client_id: "person",
      application_type: "native",
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code", "refresh_token", device],
      redirect_uris: ["http://localhost/callback"],
      response_types: ["code"],
    },
    { ...app, client_id: "app", client_secret: "app-secret", token_endpoint_auth_method: "client_secret_post" },
    {
      ...app,
      client_id: "signed",
      token_endpoint_auth_method: "private_key_jwt",
      token_endpoint_auth_signing_alg: "PS256",
      jwks: JSON.parse(jwks),
    },
    {
      client_id: "page",
      client_secret: "page-secret",
      token_endpoint_auth_method: "client_secret_post",
      grant_types: ["authorization_code"],
      redirect_uris: [`${page}/log-in/return`],
      response_types: ["code"],
    },
  ],
  claims: { openid: ["sub"], profile: ["preferred_username", "roles"], email: ["email", "email_verified"] },
  conformIdTokenClaims: false,
  cookies: { keys: ["only for tests"] },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
  },
  findAccount: async (_, id) => ({
    accountId: id,
    claims: async () => ({
      sub: id,
      preferred_username: id,
      roles: [`role of ${id}`],
      email: id,
      email_verified: !id.startsWith("unverified"),
    }),
  }),
  jwks: { keys: [{ ...key.export({ format: "jwk" }), kid, alg: "RS256", use: "sig" }] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  scopes: ["openid", "offline_access", "profile", "email", "mail"],
  ttl: { AccessToken: 3600, ClientCredentials: 3600, IdToken: 3600, RefreshToken: 86400, Grant: 86400, Session: 600, Interaction: 600, DeviceCode: 600 },
});

function signed(claims, by = key) {
  return new SignJWT(claims).setProtectedHeader({ alg: "RS256", kid }).sign(by);
}

const spoiled = {
  "audience@example.com": (claims) => signed({ ...claims, aud: "another" }),
  "issuer@example.com": (claims) => signed({ ...claims, iss: "https://elsewhere.example" }),
  "nonce@example.com": (claims) => signed({ ...claims, nonce: "another" }),
  "expired@example.com": (claims) => signed({ ...claims, exp: claims.iat - 60 }),
  "forged@example.com": (claims) => signed(claims, foreign),
  "unsigned@example.com": (claims) => new UnsecuredJWT(claims).encode(),
};

provider.use(async (context, next) => {
  await next();
  const token = context.path === "/token" && context.body?.id_token;
  const claims = token && decodeJwt(token);
  if (claims) context.body.id_token = (await spoiled[claims.sub]?.(claims)) ?? token;
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
