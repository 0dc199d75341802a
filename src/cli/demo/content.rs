//! The demo's data: a small shop, and a hash of all it holds.

/// What is made before the base backup. `{scale}` is a percentage.
pub const SCHEMA: &str = r"
CREATE TABLE customers (
    id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE,
    country char(2) NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE products (
    id bigint PRIMARY KEY, sku text NOT NULL UNIQUE, title text NOT NULL, price_cents integer NOT NULL CHECK (price_cents > 0));
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers, placed_at timestamptz NOT NULL,
    status text NOT NULL, note text NOT NULL);
CREATE TABLE order_items (
    order_id bigint NOT NULL REFERENCES orders, line integer NOT NULL, product_id bigint NOT NULL REFERENCES products,
    quantity integer NOT NULL, price_cents integer NOT NULL, PRIMARY KEY (order_id, line));
";

/// Rows of the first load, in SQL, for a scale in percent.
pub fn load(scale: u32) -> String {
    let customers = 1_200 * scale;
    let products = 50 * scale;
    let orders = 5_500 * scale;
    format!(
        r"
SET synchronous_commit = off;
INSERT INTO customers SELECT i, 'Customer ' || i, 'customer' || i || '@example.org', (ARRAY['DE','FR','CL','US','JP'])[1 + i % 5],
    timestamptz '2024-01-01 00:00+00' + i * interval '4 minutes' FROM generate_series(1, {customers}) i;
INSERT INTO products SELECT i, 'SKU-' || lpad(i::text, 7, '0'), 'Product ' || md5(i::text), 100 + (i * 37) % 90000 FROM generate_series(1, {products}) i;
INSERT INTO orders SELECT i, 1 + (i * 7919::bigint) % {customers}, timestamptz '2025-01-01 00:00+00' + i * interval '47 seconds',
    (ARRAY['new','paid','shipped','returned'])[1 + i % 4], md5(i::text) || md5((i + 1)::text) FROM generate_series(1, {orders}) i;
INSERT INTO order_items SELECT o, l, 1 + (o * 31::bigint + l * 7) % {products}, 1 + (o + l) % 5, 100 + (o * 13 + l) % 90000
    FROM generate_series(1, {orders}) o, generate_series(1, 2) l;
CREATE INDEX orders_by_customer ON orders (customer_id, placed_at);
ANALYZE;
"
    )
}

/// Commits that come after the base backup, so that only WAL can bring them back.
pub fn later(scale: u32) -> String {
    let orders = 5_500 * scale;
    let more = 200 * scale;
    format!(
        r"
INSERT INTO orders SELECT {orders} + i, 1 + i % 1000, now(), 'new', 'after the backup ' || md5(i::text) FROM generate_series(1, {more}) i;
INSERT INTO order_items SELECT {orders} + i, 1, 1 + i % {scale}, 1, 4200 FROM generate_series(1, {more}) i;
UPDATE orders SET status = 'paid' WHERE id % 97 = 0;
DELETE FROM order_items WHERE order_id % 1013 = 0;
"
    )
}

/// Tables of the shop.
pub const TABLES: [&str; 4] = ["customers", "products", "orders", "order_items"];

/// Gives, for each table, its name, rows and a hash over all its rows that does not depend on their order.
pub fn fingerprint() -> String {
    let parts = TABLES.map(|table| {
        format!("SELECT '{table}', count(*)::text, coalesce(sum(('x' || left(md5(t::text), 15))::bit(60)::bigint::numeric), 0)::text FROM {table} t")
    });
    parts.join(" UNION ALL ") + " ORDER BY 1"
}
